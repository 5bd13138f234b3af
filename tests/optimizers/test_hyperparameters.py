"""The settings of a rule of one's own are written and read by the base, schedules among them."""

import pytest
import tensorflow as tf
import tf_keras
from tf_keras import optimizers

import rewriter
from models import MODELS, fit
from rules import Rule, rewritten, weights


def test_settings_are_serialized_by_the_base():
    """Those of every class in the line, under their own names; one that is not kept is named with the line to write."""

    class Further(Rule):
        def __init__(self, learning_rate=0.5, *, gamma=1, **kwargs):
            super().__init__(learning_rate, **kwargs)
            self.gamma = gamma

    class Forgetful(Rule):
        def __init__(self, delta=1, **kwargs):  # noqa: ARG002
            super().__init__(**kwargs)

    schedule = optimizers.schedules.ExponentialDecay(0.5, 2, 0.5)
    config = Further(schedule, beta=0.25, gamma=3, decay_bias=True, clipnorm=2.0).get_config()
    expected = {"beta": 0.25, "gamma": 3, "decay_bias": True, "clipnorm": 2.0, "name": "Further"}
    assert expected.items() <= config.items()
    assert Further.from_config(dict(config)).get_config() == config
    with pytest.raises(TypeError, match=r"Forgetful does not keep its argument delta; write self\.delta = delta"):
        Forgetful().get_config()


def test_settings_may_be_schedules(tmp_path):
    """Any of them; a momentum of a rule that is no number is not passed to the SGD of an export."""

    @tf_keras.saving.register_keras_serializable("tests")
    class Scheduled(rewriter.JointOptimizer):
        def __init__(self, learning_rate=0.5, momentum=0.5, **kwargs):
            super().__init__(learning_rate, **kwargs)
            self.momentum = momentum

        def update_layer(self, gradient, variable, layout):  # noqa: ARG002
            variable.assign_sub(self.momentum(self.iterations) * gradient)

    model = rewritten(optimizer=Scheduled(0.5, optimizers.schedules.ExponentialDecay(0.5, 10, 0.5)))
    fit(model)
    rewriter.save_model(model, tmp_path / "m.keras")
    loaded = rewriter.load_model(tmp_path / "m.keras")
    fit(model)
    fit(loaded)
    assert weights(loaded) == weights(model)
    rewriter.split(model)
    assert model.optimizer.momentum == 0


def test_a_schedule_of_the_users_own_needs_no_registration():
    """As under plain Keras: it is handed on as it is, to joint momentum and back."""

    class Hyperbola(optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.5 / (1.0 + tf.cast(step, tf.float32))

    schedule = Hyperbola()
    model = MODELS["sequential"]()
    model.compile(optimizers.SGD(schedule, 0.5), "mse")
    rewriter.rewrite(model)
    fit(model)
    with rewriter.standard_form(model):
        assert model.optimizer._learning_rate is schedule
    rewriter.split(model)
    assert model.optimizer._learning_rate is schedule
    fit(model)
