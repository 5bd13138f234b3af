"""The optimizer across the rewrite: kept bit for bit, or replaced and said so."""

import numpy as np
import pytest
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from arrays import bits
from model_state import loop
from models import MODELS, batch, fit, trained_pair
from processes import run_script_without_rewriter
from rewriter.adapters import keras
from rewriter.optimizers.optimizer_choice import choose_optimizer
from rewriter.rewriting.rewrite import apply
from short_cases import cases

KEPT = {
    "sgd": lambda: optimizers.SGD(0.05),
    "sgd-nesterov": lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda: optimizers.Adam(0.01),
    "adam-amsgrad-ema": lambda: optimizers.Adam(0.01, amsgrad=True, use_ema=True, ema_overwrite_frequency=4),
    "adamw": lambda: optimizers.AdamW(0.01, weight_decay=0.1),
    "rmsprop-centered": lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "adagrad": lambda: optimizers.Adagrad(0.1),
    "adadelta": lambda: optimizers.Adadelta(1.0),
    "adamax": lambda: optimizers.Adamax(0.01),
    "ftrl": lambda: optimizers.Ftrl(0.1),
    "nadam": lambda: optimizers.Nadam(0.01),
    "lion": lambda: optimizers.Lion(0.01),
    "schedule": lambda: optimizers.Adam(optimizers.schedules.ExponentialDecay(0.01, 2, 0.5)),
    "loss-scale": lambda: tf_keras.mixed_precision.LossScaleOptimizer(optimizers.Adam(0.01)),
    "legacy-sgd": lambda: optimizers.legacy.SGD(0.05, momentum=0.9, nesterov=True, decay=0.1),
    "legacy-adam": lambda: optimizers.legacy.Adam(0.01, amsgrad=True),
    "legacy-rmsprop": lambda: optimizers.legacy.RMSprop(0.01, momentum=0.5, centered=True),
    "legacy-adagrad": lambda: optimizers.legacy.Adagrad(0.1),
    "legacy-adadelta": lambda: optimizers.legacy.Adadelta(1.0),
    "legacy-adamax": lambda: optimizers.legacy.Adamax(0.01),
    "legacy-nadam": lambda: optimizers.legacy.Nadam(0.01),
    "legacy-ftrl": lambda: optimizers.legacy.Ftrl(0.1),
    "legacy-loss-scale": lambda: tf_keras.mixed_precision.LossScaleOptimizer(optimizers.legacy.Adam(0.01)),
}
# TensorFlow computes rsqrt with another last bit in vector registers than in the scalar tail of an array (seen on
# arrays that share no code with this library), and merging moves elements between the two. These optimizers use it,
# and are bit-equal where every weight fills whole registers.
WITH_RSQRT = {"rmsprop-centered", "adagrad", "adadelta", "legacy-rmsprop", "legacy-adagrad", "legacy-adadelta"}


def weights(model):
    with rewriter.standard_form(model):
        return [bits(weight.numpy()) for weight in model.weights]


def saved_variables(optimizer):
    """What Keras saves of an optimizer; a legacy one has a method for it."""
    return optimizer.variables() if callable(optimizer.variables) else optimizer.variables


KEEPING = [
    (optimizer, name)
    for optimizer in KEPT
    for name in ("shared_across_levels", "partly_frozen", "whole_vectors")
    if name == "whole_vectors" or optimizer not in WITH_RSQRT
    if name != "partly_frozen" or optimizer in {"adam", "legacy-adam", "loss-scale"}
    # A test in graph mode costs seconds, and for the rule of an optimizer one model is as good as another.
    if name != "shared_across_levels" or optimizer in {"sgd-nesterov", "adam-amsgrad-ema", "legacy-sgd", "loss-scale"}
]
SHORT = {("adam", "partly_frozen"), ("legacy-sgd", "shared_across_levels"), *((each, "whole_vectors") for each in KEPT)}
# In graph mode tf-keras's Nadam multiplies its running product once for each variable and step, so that it depends on
# how many there are, until after about 25 factors it is too small to matter.
EPOCHS = {"nadam": 8}
# Tracing takes the time of these tests, and does not depend on the rule.
IN_GRAPH_MODE = {"sgd-nesterov", "adam-amsgrad-ema", "loss-scale", "nadam", "legacy-adam"}


@pytest.mark.parametrize(("optimizer", "name"), cases(KEEPING, SHORT))
def test_keep_carries_the_state_there_and_back(optimizer, name):
    """Training on through a rewrite and a split, under the kept optimizer, is bit-equal to training on without."""
    eagerly = optimizer not in IN_GRAPH_MODE
    original, model = trained_pair(MODELS[name], KEPT[optimizer], EPOCHS.get(optimizer, 1), run_eagerly=eagerly)
    optimizer = model.optimizer
    names = [variable.name.split("/")[-1] for variable in saved_variables(optimizer)]
    rewriter.rewrite(model, optimizer="keep")
    assert model.optimizer is optimizer
    fit(original)
    fit(model)
    assert weights(model) == weights(original)
    fit(original)
    fit(model)
    rewriter.split(model)
    fit(original)
    fit(model)
    assert weights(model) == weights(original)
    assert [variable.name.split("/")[-1] for variable in saved_variables(optimizer)] == names
    states = [[bits(variable.numpy()) for variable in saved_variables(each.optimizer)] for each in (original, model)]
    assert states[0] == states[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", KEPT)
def test_training_goes_on_in_plain_keras_after_an_export(tmp_path, name):
    """Rewritten, trained, exported, and trained where rewriter is not installed: as if it had never been rewritten."""
    x, y = batch()
    np.savez(tmp_path / "data.npz", x=x, y=y)
    # Keras's .keras format leaves out the state of legacy optimizers, its .h5 that inside a LossScaleOptimizer.
    suffix = ".h5" if name.startswith("legacy") else ".keras"
    eagerly = name not in IN_GRAPH_MODE
    original, model = trained_pair(MODELS["whole_vectors"], KEPT[name], EPOCHS.get(name, 1), run_eagerly=eagerly)
    rewriter.rewrite(model, optimizer="keep")
    for each in (original, model):
        fit(each)
    mode = "eager" if eagerly else "graph"
    paths = [tmp_path / f"{which}{suffix}" for which in ("original", "exported")]
    original.save(paths[0])
    rewriter.export(model, paths[1])
    of_original, of_exported = run_script_without_rewriter("train_plain", mode, tmp_path / "data.npz", *paths)
    assert of_exported == of_original


def test_keras_format_is_refused_for_legacy_state(tmp_path):
    """The .keras format would leave it out without a word; the error says which format holds it."""
    _, model = trained_pair(MODELS["whole_vectors"], KEPT["legacy-adam"])
    rewriter.rewrite(model, optimizer="keep")
    for write in (rewriter.save_model, rewriter.export):
        with pytest.raises(
            rewriter.FileError, match=r"leave out the state of the legacy Adam, 1[06] variables. Use \.h5"
        ):
            write(model, tmp_path / "model.keras")
    assert list(tmp_path.iterdir()) == []


def test_nadam_trained_eagerly_is_kept_from_the_first_step():
    """Eagerly, tf-keras's Nadam counts steps; the count and the product go on."""
    pair = [MODELS["whole_vectors"]() for _ in range(2)]
    pair[1].set_weights(pair[0].get_weights())
    for model in pair:
        model.compile(optimizers.Nadam(0.01), "mse", run_eagerly=True)
        fit(model)
    rewriter.rewrite(pair[1], optimizer="keep")
    for model in pair:
        fit(model)
    rewriter.split(pair[1])
    for model in pair:
        fit(model)
    assert weights(pair[0]) == weights(pair[1])


class Mine(optimizers.Adam):
    """An optimizer that is no one's but the user's."""


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (optimizers.Adafactor, "Adafactor: its slots are not one number for each weight"),
        (Mine, r"Mine is not one of them.*optimizer=model\.optimizer"),
    ],
)
def test_keep_refuses_what_it_cannot_promise(optimizer, message):
    """Named, with what to do instead, before anything changes."""
    model = MODELS["sequential"]()
    model.compile(optimizer(), "mse")
    fit(model)
    with pytest.raises(rewriter.OptimizerError, match=message):
        rewriter.rewrite(model, optimizer="keep")
    assert type(model.layers[0]) is layers.Dense


def test_an_optimizer_that_is_given_keeps_its_state():
    """A user's own optimizer, and one that trains in a loop of the user's own, go on with the state they have."""
    original, model = trained_pair(MODELS["whole_vectors"], lambda: Mine(0.01))
    rewriter.rewrite(model, optimizer=model.optimizer)
    fit(original)
    fit(model)
    assert weights(model) == weights(original)

    pair = trained_pair(MODELS["whole_vectors"], epochs=0)
    own = [optimizers.Adam(0.01), optimizers.Adam(0.01)]
    for each, optimizer in zip(pair, own, strict=True):
        loop(each, optimizer)
    rewriter.rewrite(pair[1], optimizer=own[1])
    for each, optimizer in zip(pair, own, strict=True):
        loop(each, optimizer)
    assert weights(pair[0]) == weights(pair[1])


@pytest.mark.parametrize("given", ["keep", None], ids=["keep", "given"])
def test_an_optimizer_that_trains_other_variables_too_is_refused(given):
    """State of variables that are not in the model has no place to go."""
    other, model = MODELS["sequential"](), MODELS["sequential"]()
    optimizer = optimizers.Adam()
    optimizer.build(other.trainable_variables + model.trainable_variables)
    model.compile(optimizer, "mse")
    with pytest.raises(rewriter.OptimizerError, match="also trains 6 variables that are not in this model"):
        rewriter.rewrite(model, optimizer=given or optimizer)
    optimizer = optimizers.Adam()
    optimizer.build(other.trainable_variables)
    with pytest.raises(rewriter.OptimizerError, match="is built for other variables than those of this model"):
        rewriter.rewrite(model, optimizer=optimizer)


@pytest.mark.parametrize("given", ["sgd", "centered"])
def test_joint_momentum_by_its_name(given):
    """It starts from an SGD, centered or not; what it cannot start from stays behind, and it is kept where it is."""
    model = MODELS["nested"]()
    model.compile(optimizers.SGD(0.25, momentum=0.5), "mse")
    if given == "centered":
        rewriter.rewrite(model, "centered")
    rewriter.rewrite(model, "JointMomentum")
    optimizer = model.optimizer
    assert type(optimizer) is rewriter.JointMomentum
    assert rewriter.rewrite(model, "JointMomentum").optimizer is optimizer


@pytest.mark.parametrize("wrong", ["adam", 3, optimizers.Adam], ids=["name", "number", "class"])
def test_an_optimizer_is_an_instance(wrong):
    """Anything but None, 'keep' or an optimizer instance is refused with what was given."""
    names = "'JointMomentum', 'SOAP', 'KFAC', 'Muon', 'QuasiDiagonal'"
    said = f"must be None, 'keep', 'centered', {names} or an optimizer of tf_keras, got"
    with pytest.raises(rewriter.OptimizerError, match=said):
        rewriter.rewrite(MODELS["sequential"](), optimizer=wrong)


SGD = {
    "sgd": (lambda: optimizers.SGD(0.05, momentum=0.75, clipnorm=5.0), 0.05),
    "legacy": (lambda: optimizers.legacy.SGD(0.05, momentum=0.75), 0.05),
    # Three steps were made; the last one at 0.5 * 0.5 ** (2 / 2), and at 0.05 / (1 + 0.5 * 2).
    "schedule": (lambda: optimizers.SGD(optimizers.schedules.ExponentialDecay(0.5, 2, 0.5), momentum=0.75), 0.25),
    "legacy-decay": (lambda: optimizers.legacy.SGD(0.05, momentum=0.75, decay=0.5), 0.025),
    "loss-scale": (
        lambda: tf_keras.mixed_precision.LossScaleOptimizer(optimizers.SGD(0.05, momentum=0.75)),
        0.05,
    ),
}


STARTING = [*((name, False) for name in SGD), ("sgd", True)]


@pytest.mark.parametrize(
    ("name", "merged_before"), cases(STARTING, [("sgd", True), ("loss-scale", False), ("legacy-decay", False)])
)
def test_joint_momentum_starts_with_the_velocity_of_an_sgd(name, merged_before):
    """Its m is the mean of -slot / learning rate, per unit; settings, schedule and iterations are those of the SGD.

    The SGD has a slot for each weight or, where the model was rewritten under it before, for each augmented kernel.
    """
    optimizer, rate = SGD[name]
    _, model = trained_pair(MODELS["sequential"], optimizer)
    sgd = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    slots = [variable.numpy() for variable in saved_variables(sgd) if variable.shape.rank]
    kernel, bias, gamma, beta, last_kernel, last_bias = (slot.astype(np.float64) / -rate for slot in slots)
    if merged_before:
        rewriter.rewrite(model, "keep")
    rewriter.rewrite(model)
    joint = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    assert isinstance(joint, rewriter.JointMomentum)
    assert joint.centered
    assert (joint.momentum, int(joint.iterations)) == (0.75, 3)
    expected = [np.vstack([kernel, bias]).mean(axis=0), gamma, beta, np.vstack([last_kernel, last_bias]).mean(axis=0)]
    by_variable = {id(v): m for v, m in zip(model.trainable_variables, joint.momentums, strict=True)}
    merged = [model.layers[0].augmented_kernel, *model.layers[1].trainable_variables, model.layers[2].augmented_kernel]
    for variable, value in zip(merged, expected, strict=True):
        np.testing.assert_allclose(by_variable[id(variable)].numpy(), value, rtol=1e-5, atol=1e-7)
        assert np.any(value)
    next_rate = {"schedule": 0.5 * 0.5 ** (3 / 2), "legacy-decay": 0.05 / (1 + 0.5 * 3)}.get(name, rate)
    fit(model)
    if name in {"schedule", "legacy-decay"}:
        np.testing.assert_allclose(float(joint._learning_rate(3)), next_rate, rtol=1e-6)
    assert joint.clipnorm == (5.0 if name == "sgd" else None)


def test_joint_momentum_goes_on_under_other_settings():
    """A model that is rewritten in part, and a new learning rate, keep the momentum there is."""
    _, model = trained_pair(MODELS["whole_vectors"], lambda: optimizers.SGD(0.05, momentum=0.75))
    rewriter.rewrite(model, exclude=lambda layer: layer is model.layers[1])
    fit(model)
    optimizer = model.optimizer
    first, second = (slot.numpy().astype(np.float64) for slot in (optimizer.momentums[1], optimizer.momentums[2]))
    rewriter.rewrite(model)
    assert model.optimizer is optimizer
    slot = optimizer.momentums[optimizer._index_dict[model.layers[1].augmented_kernel._unique_id]]
    np.testing.assert_allclose(slot.numpy(), np.vstack([first, second]).mean(axis=0), rtol=1e-5)
    choice = choose_optimizer(model, learning_rate=0.5)
    assert choice.state_of is optimizer
    apply(rewriter.plan(model), model, choice)
    assert (float(model.optimizer.learning_rate), model.optimizer.momentum) == (0.5, 0.75)
    assert [bits(slot.numpy()) for slot in model.optimizer.variables] == [
        bits(slot.numpy()) for slot in optimizer.variables
    ]


def test_an_uncompiled_model_stays_uncompiled_with_the_optimizer_ready():
    """model.compile(model.optimizer, ...) is all that is left to do."""
    model = rewriter.rewrite(MODELS["sequential"]())
    with pytest.raises(RuntimeError, match="must compile"):
        model.fit(*batch())
    assert isinstance(model.optimizer, rewriter.JointMomentum)
    model.compile(model.optimizer, "mse")
    fit(model)


def test_compiled_loss_and_metrics_stay():
    """What else was compiled is left as it is."""
    model = MODELS["sequential"]()
    model.compile("adam", loss=tf_keras.losses.Huber(), metrics=["mae"], steps_per_execution=2)
    fit(model)
    names = model.metrics_names
    expected = model.evaluate(*batch(), verbose=0)
    rewriter.rewrite(model)
    assert model.metrics_names == names
    assert model.evaluate(*batch(), verbose=0) == expected
    assert set(fit(model).history) == {"loss", "mae"}


def test_the_slots_are_looked_up_as_often_for_many_layers_as_for_few(monkeypatch):
    """Each look is one at every slot there is: one for each layer would be quadratic in the layers."""
    looks = []
    look = keras.optimizer_slots
    monkeypatch.setattr(keras, "optimizer_slots", lambda optimizer: looks.append(optimizer) or look(optimizer))

    def count(depth):
        model = tf_keras.Sequential([layers.Dense(2, input_shape=(2,)) for _ in range(depth)])
        model.compile(optimizers.SGD(0.1, momentum=0.9), "mse")
        model.optimizer.build(model.trainable_variables)
        looks.clear()
        rewriter.split(rewriter.rewrite(model))
        return sum(each is not None for each in looks)

    assert count(20) <= count(2) + 4  # what else is alive is looked at as well


def test_centered_joint_momentum_under_another_rate_stays_centered_as_it_was():
    """What it was told of centering is no setting of joint momentum, and goes on all the same."""
    model = MODELS["sequential"]()
    model.compile("sgd", "mse")
    name = model.layers[-1].name
    rewriter.rewrite(model, rewriter.Centered(rewriter.JointMomentum(0.01), decay=0.5, exclude=name))
    fit(model)
    apply(rewriter.plan(model), model, choose_optimizer(model, learning_rate=0.5))
    config = model.optimizer.get_config()
    assert (config["decay"], config["exclude"]) == (0.5, name)
    assert config["optimizer"]["config"]["learning_rate"] == 0.5
    fit(model)


@pytest.mark.parametrize("optimizer", [name for name in KEPT if name.startswith("legacy")])
def test_an_optimizer_that_has_not_trained_yet_is_kept(optimizer):
    """It has nothing to move; legacy Nadam asks for the first of no variables."""
    results = []
    for rewritten in (False, True):
        tf_keras.utils.set_random_seed(3)
        model = tf_keras.Sequential([layers.Dense(8, input_shape=(7,)), layers.Dense(8)])
        model.compile(KEPT[optimizer](), "mse", run_eagerly=True)
        if rewritten:
            rewriter.rewrite(model, optimizer="keep")
        x = np.random.default_rng(0).standard_normal((16, 7)).astype("float32")
        for _ in range(3):
            model.train_on_batch(x, x[:, :1] * np.ones((1, 8), "float32"))
        results.append(weights(model))
    if optimizer not in WITH_RSQRT:
        assert results[0] == results[1]
