"""A variable that somebody else holds too is not replaced: what holds it would train, or read, a dead one."""

import collections
import functools
import types
import weakref

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from arrays import bits
from factors import Factors
from models import batch

KERNEL = None  # a notebook's global
PENALTIES = types.ModuleType("penalties")  # a user's module
exec("import tensorflow as tf\nKERNEL = None\ndef penalty():\n    return tf.reduce_sum(KERNEL**2)", vars(PENALTIES))  # noqa: S102


def penalty_of_a_global():
    return tf.reduce_sum(KERNEL**2)


def through_another_function():
    return 0.5 * penalty_of_a_global()


class NamedLikeTensorFlow(tf_keras.Model):
    """A layer and its kernel, under names that begin as those in which TensorFlow notes what it tracks."""

    def __init__(self):
        super().__init__()
        self._self_attention = layers.Dense(2)

    def call(self, inputs):
        return self._self_attention(inputs)


def test_a_name_like_tensorflows_own_is_no_secret():
    model = NamedLikeTensorFlow()
    model(batch()[0])
    object.__setattr__(model, "_self_kernel", model._self_attention.kernel)
    (decision,) = rewriter.plan(model).decisions
    assert decision.path == "_self_attention"
    assert str(decision.reason) == "_self_attention.kernel and _self_kernel are one variable: merging would untie them"


class Loss(tf_keras.losses.Loss):
    def __init__(self, kernel):
        super().__init__()
        self.kernel = kernel

    def call(self, target, output):
        return tf.reduce_mean((target - output) ** 2, axis=-1) + 0.01 * tf.reduce_sum(self.kernel**2)


class Metric(tf_keras.metrics.Mean):
    def __init__(self, kernel):
        super().__init__()
        self.norm = lambda: tf.norm(kernel)  # a metric sets every variable that it tracks to zero

    def update_state(self, *_, **__):
        return super().update_state(self.norm())


class Held:
    """What regularizers, constraints, schedules and activations have in common: an attribute, and a call."""

    def __init__(self, kernel):
        super().__init__()
        self.kernel = kernel

    def __call__(self, value):
        return value * tf.norm(self.kernel)


class Regularizer(Held, tf_keras.regularizers.Regularizer):
    def __call__(self, value):
        return tf.reduce_sum(value * self.kernel[:1, :1])


class Constraint(Held, tf_keras.constraints.Constraint):
    pass


class Schedule(Held, optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.01 * tf.norm(self.kernel) + 0 * tf.cast(step, tf.float32)


class Penalized(layers.Layer):
    def call(self, inputs):
        self.add_loss(penalty_of_a_global())
        return inputs


class GlobalStep(tf_keras.Model):
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True)) + penalty_of_a_global()
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"loss": loss}


def build(*further, last=None, cls=tf_keras.Sequential):
    hidden = layers.Dense(3, "tanh", input_shape=(5,), name="held")
    last = last or layers.Dense(3, name="last")
    if cls is tf_keras.Sequential:
        model = cls([hidden, *further, last])
    else:
        inputs = tf_keras.Input((5,))
        model = cls(inputs, last(hidden(inputs)))
    return model, hidden


def compiled(model, loss="mse", optimizer="sgd", **options):
    model.compile(optimizer, loss, run_eagerly=True, **options)  # graphs add up in an order of their own
    return model


def loss_object():
    model, hidden = build()
    return compiled(model, Loss(hidden.kernel))


def loss_in_a_dict():
    model, hidden = build()
    return compiled(model, {"last": Loss(hidden.kernel)})


def loss_function():
    model, hidden = build()
    kernel = hidden.kernel
    return compiled(model, lambda target, output: tf.reduce_mean((target - output) ** 2) + tf.norm(kernel))


def loss_partial():
    def loss(target, output, kernel):
        return tf.reduce_mean((target - output) ** 2) + tf.norm(kernel)

    model, hidden = build()
    return compiled(model, functools.partial(loss, kernel=hidden.kernel))


def metric():
    model, hidden = build()
    return compiled(model, metrics=[Metric(hidden.kernel)])


def global_in_add_loss():
    model, hidden = build()
    globals()["KERNEL"] = hidden.kernel
    model.add_loss(penalty_of_a_global)
    return compiled(model)


def global_behind_another_function():
    model, hidden = build()
    globals()["KERNEL"] = hidden.kernel
    hidden.add_loss(through_another_function)
    return compiled(model)


def global_of_a_module():
    model, hidden = build()
    PENALTIES.KERNEL = hidden.kernel
    model.add_loss(lambda: PENALTIES.penalty())  # noqa: PLW0108  as a notebook has it
    return compiled(model)


def global_in_a_call():
    _, hidden = build()
    globals()["KERNEL"] = hidden.kernel
    return compiled(tf_keras.Sequential([hidden, Penalized(), layers.Dense(3, name="last")]))


def global_in_a_train_step():
    model, hidden = build(cls=GlobalStep)
    globals()["KERNEL"] = hidden.kernel
    return compiled(model)


def regularizer():
    _, hidden = build()
    last = layers.Dense(3, name="last", use_bias=False, kernel_regularizer=Regularizer(hidden.kernel))
    return compiled(tf_keras.Sequential([hidden, last]))


def constraint():
    _, hidden = build()
    last = layers.Dense(3, name="last", use_bias=False, kernel_constraint=Constraint(hidden.kernel))
    return compiled(tf_keras.Sequential([hidden, last]))


def activation():
    _, hidden = build()
    last = layers.Dense(3, name="last", use_bias=False, activation=Held(hidden.kernel))
    return compiled(tf_keras.Sequential([hidden, last]))


def schedule():
    model, hidden = build()
    return compiled(model, optimizer=optimizers.SGD(Schedule(hidden.kernel)))


def argument_of_an_operation():
    """A decoder that is tied in a Functional model, as tutorials tie it: Keras makes a layer of the operation."""
    hidden = layers.Dense(3, "tanh", name="held")
    inputs = tf_keras.Input((5,))
    encoded = hidden(inputs)
    decoded = tf.matmul(encoded, hidden.kernel, transpose_b=True)
    return compiled(tf_keras.Model(inputs, layers.Dense(3, name="last")(decoded)))


def lambda_layer():
    _, hidden = build()
    kernel = hidden.kernel
    return compiled(tf_keras.Sequential([hidden, layers.Lambda(lambda value: value * tf.norm(kernel))]))


def referring(refer, refers_to):
    model, hidden = build(cls=Factors)
    kept = refer(hidden.kernel)
    model.kept, model.factor_of = kept, lambda variable: 0.1 if refers_to(kept, variable) else 1.0
    return compiled(model)


def keys_of_a_dict():
    return referring(lambda kernel: {kernel.ref(): 1}, lambda kept, each: each.ref() in kept)


def references_in_an_array():
    return referring(lambda kernel: np.array([kernel.ref()], dtype=object), lambda kept, each: kept[0].deref() is each)


def deque_of_kernels():
    return referring(lambda kernel: collections.deque([kernel]), lambda kept, each: kept[0] is each)


def weak_references():
    return referring(lambda kernel: [weakref.ref(kernel)], lambda kept, each: kept[0]() is each)


def moving_averages():
    def averages(kernel):
        made = tf.train.ExponentialMovingAverage(0.5)
        made.apply([kernel])
        return made

    return referring(averages, lambda kept, each: kept.average(each) is not None)


HOLDERS = {
    builder.__name__: builder
    for builder in (
        loss_object,
        loss_in_a_dict,
        loss_function,
        loss_partial,
        metric,
        global_in_add_loss,
        global_behind_another_function,
        global_of_a_module,
        global_in_a_call,
        global_in_a_train_step,
        regularizer,
        constraint,
        activation,
        schedule,
        argument_of_an_operation,
        lambda_layer,
        keys_of_a_dict,
        references_in_an_array,
        weak_references,
        deque_of_kernels,
        moving_averages,
    )
}


@pytest.fixture(autouse=True)
def _forget():
    yield
    globals()["KERNEL"] = PENALTIES.KERNEL = None


@pytest.mark.filterwarnings("ignore")  # Keras warns of variables in operations
@pytest.mark.parametrize("name", HOLDERS)
def test_a_layer_whose_kernel_somebody_holds_is_left_alone(name):
    """With the way to the holder; and training goes on bit for bit as it would."""
    weights = []
    for rewritten in (False, True):
        tf_keras.backend.clear_session()
        tf_keras.utils.set_random_seed(5)
        model = HOLDERS[name]()
        if rewritten:
            (held,) = [each for each in rewriter.plan(model).decisions if each.path == "held"]
            assert held.action == "skip"
            assert held.reason.startswith("held.kernel and ")
            assert "are one variable: merging would untie them" in held.reason
            rewriter.rewrite(model, optimizer="keep")
        x, y = batch()
        model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
        with rewriter.standard_form(model):
            weights.append([bits(weight) for weight in model.get_weights()])
    assert weights[0] == weights[1]


def test_the_holder_is_named():
    """By the attribute, the argument of compile, or the name of the global."""
    reasons = {}
    for name in ("loss_object", "global_in_add_loss", "global_of_a_module", "schedule"):
        (held,) = [each for each in rewriter.plan(HOLDERS[name]()).decisions if each.path == "held"]
        reasons[name] = held.reason
    assert "loss.kernel" in reasons["loss_object"]
    assert "add_loss[0]() global KERNEL" in reasons["global_in_add_loss"]
    assert "global PENALTIES.penalty() global KERNEL" in reasons["global_of_a_module"]
    assert "_learning_rate.kernel" in reasons["schedule"]


def test_what_only_reads_through_the_layer_holds_nothing():
    """A global model, a function that asks the layer for its kernel, and a variable that no function names."""
    model, hidden = build()
    globals()["KERNEL"] = hidden.kernel  # named by other functions than this model's
    model.add_loss(lambda: 0.1 * tf.reduce_sum(hidden.kernel**2))
    compiled(model, lambda target, output: tf.reduce_mean((target - output) ** 2) + 0.1 * tf.norm(model.layers[0].bias))
    assert [each.action for each in rewriter.plan(model).decisions] == ["merge", "merge"]
    twin = tf_keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    rewriter.rewrite(model, optimizer="keep")
    x, y = batch()
    before = np.asarray(hidden.kernel)
    model.fit(x, y, verbose=0)
    assert np.any(np.asarray(hidden.kernel) != before)
