"""Train in centered coordinates on one backend of Keras 3; print how far each way is from NumPy in float64.

The backend is that of ``KERAS_BACKEND``, given as the first argument, as it is chosen when Keras is imported.
"""

import json
import os
import sys
import typing

os.environ["KERAS_BACKEND"] = sys.argv[1]

import keras
import numpy as np
from keras import layers

import centered_oracle
import rewriter
from centered_oracle import Adam, Joint, Sgd

BACKEND, FOLDER = sys.argv[1:]
STEPS, ROWS, RATE = 40, 8, 0.05
GENERATOR = np.random.default_rng(5)
X = (GENERATOR.standard_normal((STEPS * ROWS, 5)) + 2).astype("float32")
Y = GENERATOR.standard_normal((STEPS * ROWS, 3)).astype("float32")


@keras.saving.register_keras_serializable()
class Falling(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that is another in each step."""

    def __call__(self, step):
        return 0.05 / (1 + keras.ops.cast(step, "float32"))

    def get_config(self):
        return {}


def centered(optimizer, **settings):
    return rewriter.keras3.Centered(optimizer, **settings)


class Clipped(Sgd):
    """Each gradient clipped to a norm, after it was changed."""

    def step(self, name, gradient):
        return super().step(name, gradient * min(1.0, 0.1 / np.linalg.norm(gradient)))


OPTIMIZERS = {
    "momentum": (lambda **more: keras.optimizers.SGD(RATE, 0.9, **more), lambda: Sgd(RATE, 0.9)),
    "clipped": (lambda **more: keras.optimizers.SGD(RATE, clipnorm=0.1, **more), lambda: Clipped(RATE)),
    "Adam": (lambda **more: keras.optimizers.Adam(RATE, **more), lambda: Adam(RATE)),
    "schedule": (lambda **more: keras.optimizers.Adam(Falling(), **more), lambda: Adam(lambda step: 0.05 / (1 + step))),
    "joint": (lambda **more: rewriter.keras3.JointMomentum(RATE, 0.9, **more), lambda: Joint(RATE, 0.9)),
}


def network():
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((5,)), layers.Dense(7, activation="tanh"), layers.Dense(3)])


def stacked(model):
    kernels = [each.augmented_kernel for each in model.layers if hasattr(each, "augmented_kernel")]
    return [np.float64(keras.ops.convert_to_numpy(kernel)) for kernel in kernels]


def expected(start, rule, rows=ROWS, x=X, y=Y):
    batches = [(np.float64(x[at : at + rows]), np.float64(y[at : at + rows])) for at in range(0, len(x), rows)]
    return centered_oracle.train(start, batches, rule)


def error(model, kernels):
    return max(float(np.abs(one - other).max()) for one, other in zip(stacked(model), kernels, strict=True))


def rewritten(optimizer, **compiled):
    model = network()
    model.compile("sgd", "mse", **compiled)
    return rewriter.rewrite(model, optimizer)


def by_fit(name, accumulated=None, scaled=False, **compiled):
    make, rule = OPTIMIZERS[name]
    optimizer = centered(make(**({"gradient_accumulation_steps": accumulated} if accumulated else {})))
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1024)
    model, x, y = rewritten(optimizer, **compiled), X, Y
    start = stacked(model)
    if scaled:  # a step that is skipped: the batch of it is not seen
        x, y = (np.concatenate([each[:80], np.full_like(each[:ROWS], np.inf), each[80:]]) for each in (X, Y))
    model.fit(x, y, batch_size=ROWS, shuffle=False, verbose=0)
    return error(model, expected(start, rule(), rows=ROWS * (accumulated or 1)))


def by_a_loop(name):
    """A loop of a user's own, of the kind that the backend is used with."""
    make, rule = OPTIMIZERS[name]
    model = rewritten(centered(make()))
    start, optimizer = stacked(model), model.optimizer
    batches = [(X[at : at + ROWS], Y[at : at + ROWS]) for at in range(0, len(X), ROWS)]
    loop = {"tensorflow": tape_loop, "jax": stateless_loop, "torch": backward_loop}[BACKEND]
    loop(model, optimizer, batches)
    return error(model, expected(start, rule()))


def tape_loop(model, optimizer, batches):
    import tensorflow as tf  # noqa: PLC0415  of this backend alone

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - y) ** 2)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    for x, y in batches:
        step(x, y)


def stateless_loop(model, optimizer, batches):
    import jax  # noqa: PLC0415  of this backend alone

    def loss(trained, others, x, y):
        outputs, others = model.stateless_call(trained, others, x)
        return ((outputs - y) ** 2).mean(), others

    @jax.jit
    def step(trained, others, state, x, y):
        gradients, others = jax.grad(loss, has_aux=True)(trained, others, x, y)
        trained, state = optimizer.stateless_apply(state, gradients, trained)
        return trained, others, state

    optimizer.build(model.trainable_variables)
    values = [[each.value for each in of] for of in variables_of(model, optimizer)]
    for x, y in batches:
        values = step(*values, x, y)
    for variables, of in zip(variables_of(model, optimizer), values, strict=True):
        for variable, value in zip(variables, of, strict=True):
            variable.assign(value)


def variables_of(model, optimizer):
    return model.trainable_variables, model.non_trainable_variables, optimizer.variables


def backward_loop(model, optimizer, batches):
    import torch  # noqa: PLC0415  of this backend alone

    for x, y in batches:
        model.zero_grad()
        loss = ((model(torch.tensor(x)) - torch.tensor(y)) ** 2).mean()
        loss.backward()
        variables = model.trainable_weights
        with torch.no_grad():
            optimizer.apply([each.value.grad for each in variables], variables)


def compiled_alone(name):
    """Given to compile, and not to rewrite."""
    make, rule = OPTIMIZERS[name]
    model = network()
    rewriter.rewrite(model, rewriter.keras3.JointMomentum())
    start = stacked(model)
    model.compile(centered(make()), "mse")
    model.fit(X, Y, batch_size=ROWS, shuffle=False, verbose=0)
    return error(model, expected(start, rule()))


def recomputed(name):
    make, rule = OPTIMIZERS[name]
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    with keras.RematScope(mode="full"):
        dense = [layers.Dense(7, activation="tanh"), layers.Dense(3)]
    model = keras.Sequential([keras.Input((5,)), *dense])
    model.compile("sgd", "mse")
    rewriter.rewrite(model, centered(make()))
    start = stacked(model)
    model.fit(X, Y, batch_size=ROWS, shuffle=False, verbose=0)
    return error(model, expected(start, rule()))


def resumed(name):
    """Through a file in the middle, against no file: 0 where all state is in it. Split, nothing is left."""
    make, _ = OPTIMIZERS[name]
    kernels = []
    for way in ("through", "past"):
        model = rewritten(centered(make()))
        model.fit(X, Y, batch_size=ROWS, shuffle=False, verbose=0)
        if way == "through":
            rewriter.save_model(model, f"{FOLDER}/{name}.keras")
            model = rewriter.load_model(f"{FOLDER}/{name}.keras")
        with rewriter.standard_form(model):
            assert [each.path.split("/")[-1] for each in model.weights] == ["kernel", "bias"] * 2
            assert len(model.optimizer.variables) == len(make_plain(make, model).variables)
        model.fit(X, Y, batch_size=ROWS, shuffle=False, verbose=0)
        kernels.append(stacked(model))
    rewriter.split(model)
    assert len(model.trainable_variables) == 4
    return max(float(np.abs(one - other).max()) for one, other in zip(*kernels, strict=True))


@keras.saving.register_keras_serializable()
class Asking(rewriter.keras3.JointOptimizer):
    """Gradient descent that asks layers for more than centering does, and goes on from what it is told."""

    slots: typing.ClassVar = {"velocity": "full"}

    def update_layer(self, gradient, variable, layout):
        del layout
        velocity = self.slot("velocity", variable)
        asked = sum(keras.ops.mean(self.statistic(name, variable)) for name in self.statistics)
        velocity.assign(0.5 * velocity + gradient + 0.01 * asked)
        variable.assign_sub(RATE * velocity)


def resumed_asking(*statistics):
    """Read by Keras itself: what the layers told the rule and what they told of its coordinates are not mixed up."""
    Asking.statistics = dict.fromkeys(statistics, 0.75)
    model = rewritten(centered(Asking()))
    model.fit(X, Y, batch_size=ROWS, shuffle=False, verbose=0)
    rewriter.save_model(model, f"{FOLDER}/{len(statistics)} asking.keras")
    loaded = keras.models.load_model(f"{FOLDER}/{len(statistics)} asking.keras")
    for each in (model, loaded):
        each.fit(X, Y, batch_size=ROWS, shuffle=False, verbose=0)
    variables = [(*of.weights, *of.optimizer.variables) for of in (model, loaded)]
    kept = [[keras.ops.convert_to_numpy(each) for each in of] for of in variables]
    return max(float(np.abs(one - other).max()) for one, other in zip(*kept, strict=True))


def centered_later(name, accumulated=None):
    """Of a model that trains already: its step is traced by then, and its optimizer has slots. Then through a file."""
    make, rule = OPTIMIZERS[name]
    model = rewritten(make(**({"gradient_accumulation_steps": accumulated} if accumulated else {})))
    model.optimizer.build(model.trainable_variables)
    start = [keras.ops.convert_to_numpy(each) for each in (*model.weights, *model.optimizer.variables)]
    model.fit(X, Y, batch_size=ROWS, shuffle=False, verbose=0)
    for variable, value in zip((*model.weights, *model.optimizer.variables), start, strict=True):
        variable.assign(value)
    kernels = stacked(model)
    centered(model.optimizer)
    model.fit(X, Y, batch_size=ROWS, shuffle=False, verbose=0)
    trained = error(model, expected(kernels, rule(), rows=ROWS * (accumulated or 1)))
    rewriter.save_model(model, f"{FOLDER}/later {name}.keras")
    loaded = rewriter.load_model(f"{FOLDER}/later {name}.keras")
    for each in (model, loaded):
        each.fit(X, Y, batch_size=ROWS, shuffle=False, verbose=0)
    pairs = zip(stacked(model), stacked(loaded), strict=True)
    return max(trained, *(float(np.abs(one - other).max()) for one, other in pairs))


def averaged(name):
    """With moving averages that are the weights themselves, written over the weights now and then."""
    make, rule = OPTIMIZERS[name]
    model = rewritten(centered(make(use_ema=True, ema_momentum=0.0, ema_overwrite_frequency=2)))
    start = stacked(model)
    model.fit(X, Y, batch_size=ROWS, shuffle=False, verbose=0)
    return error(model, expected(start, rule()))


def under_a_stand_in(name):
    """Trained in standard form in between, and rewritten by a callback: neither stands in the way of the other."""
    model = network()
    model.compile("adam", "mse")
    once = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: rewriter.rewrite(model, OPTIMIZERS[name][0]()))
    fitting = {"batch_size": ROWS, "shuffle": False, "verbose": 0}
    model.fit(X, Y, callbacks=[once], epochs=2, **fitting)
    before = stacked(model)
    with rewriter.standard_form(model):
        model.fit(X, Y, **fitting)
    between = stacked(model)
    model.fit(X, Y, **fitting)
    assert error(model, between) > 0
    return 0.0 if error(model, before) > 0 else 1.0


def make_plain(make, model):
    optimizer = make()
    plain = getattr(optimizer, "standard_optimizer", lambda: optimizer)()
    plain.build(model.trainable_variables)
    return plain


WAYS = {
    **{f"fit, {name}": (by_fit, name) for name in OPTIMIZERS if name != "Adam"},  # that are used in no other way
    "accumulated, Adam": (lambda name: by_fit(name, accumulated=4), "Adam"),
    "scaled, Adam": (lambda name: by_fit(name, scaled=True), "Adam"),
    "eagerly, Adam": (lambda name: by_fit(name, run_eagerly=True), "Adam"),
    "loop, Adam": (by_a_loop, "Adam"),
    "loop, joint": (by_a_loop, "joint"),
    "averaged, momentum": (averaged, "momentum"),
    "later, momentum": (centered_later, "momentum"),
    "later, accumulated, Adam": (lambda name: centered_later(name, accumulated=4), "Adam"),
    "under a stand-in, joint": (under_a_stand_in, "joint"),
    "given to compile alone, momentum": (compiled_alone, "momentum"),
    **{f"resumed, {name}": (resumed, name) for name in ("schedule", "joint")},
    "resumed, asking for the mean": (resumed_asking, "input_mean"),
    "resumed, asking for more": (lambda name: resumed_asking(name, "output_moment"), "input_mean"),
}
if BACKEND != "tensorflow":  # Keras itself cannot there
    WAYS["recomputed, momentum"] = recomputed, "momentum"
if BACKEND != "torch":  # nor here
    WAYS["several steps, joint"] = (lambda name: by_fit(name, steps_per_execution=4)), "joint"
print(json.dumps({"backend": keras.config.backend(), "errors": {key: run(name) for key, (run, name) in WAYS.items()}}))
