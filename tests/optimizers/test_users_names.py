"""What this library adds to users' classes does not get in the way of names that users choose."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from arrays import bits
from models import fit, nested

# Names that base classes of ours had, or that a user may well choose.
NAMES = (
    *("descend", "take_step", "decay", "decay_rate", "decay_variables", "decay_whole", "decay_with", "slot_values"),
    *("require_slots", "place_among_slots", "is_constructed", "settings", "begin_step", "end_step", "mean"),
)


class WithSlots(rewriter.JointOptimizer):
    """A rule whose slots have these names."""

    slots = dict.fromkeys(NAMES, "unit")

    def update_layer(self, gradient, variable, layout):
        for name in NAMES:
            self.slot(name, variable).assign(tf.reduce_mean(gradient, axis=layout.incoming_axis))
        variable.assign_sub(0.1 * gradient)


class WithHelpers(rewriter.JointOptimizer):
    """A rule with helpers of these names, each of which makes a part of the step."""

    def update_layer(self, gradient, variable, layout):
        del layout
        for name in NAMES:
            getattr(self, name)(variable, gradient)


for each in NAMES:
    setattr(WithHelpers, each, lambda _, variable, direction: variable.assign_sub(0.01 * direction))


@pytest.mark.parametrize("rule", [WithSlots, WithHelpers])
def test_slots_and_helpers_of_a_rule_may_have_any_name(rule):
    model = nested()
    before = model.get_weights()
    rewriter.rewrite(model, rule(0.1, weight_decay=0.01))
    model.compile(model.optimizer, "mse")
    fit(model)
    rewriter.split(model)
    assert all(bits(one) != bits(other) for one, other in zip(before, model.get_weights(), strict=True))


class Decaying(optimizers.AdamW):
    """A user's own, with attributes of common names."""

    def __init__(self, **settings):
        super().__init__(**settings)
        for name in NAMES:
            if not hasattr(self, name):
                setattr(self, name, 0.5)


def test_a_users_optimizer_may_have_attributes_of_any_name():
    models = []
    for merged in (False, True):
        tf_keras.utils.set_random_seed(1)
        model = tf_keras.Sequential([layers.Dense(4, input_shape=(5,)), layers.Dense(3)])
        optimizer = Decaying(weight_decay=0.1)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        model.compile(optimizer, "mse")
        if merged:
            rewriter.rewrite(model, optimizer=model.optimizer)
        fit(model, epochs=2)
        models.append(rewriter.split(model).get_weights())
    assert all(np.array_equal(one, other) for one, other in zip(*models, strict=True))


class Named(layers.Dense):
    """A layer of a user's with methods of common names."""

    def require_whole(self):
        raise NotImplementedError

    mark_copy = standard_class_of = build_as_keras_does = observe = require_whole


def test_a_users_layer_may_have_methods_of_any_name(tmp_path):
    model = tf_keras.Sequential([Named(4, input_shape=(5,)), layers.Dense(3)])
    model.compile("adam", "mse")
    rewriter.rewrite(model, optimizer="keep")
    fit(model)
    model.save_weights(tmp_path / "weights.h5")
    assert isinstance(tf_keras.models.clone_model(model).layers[0], Named)
