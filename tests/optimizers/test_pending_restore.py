"""What a checkpoint holds for an optimizer that is not built yet gets to the right weights, or is refused."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from arrays import bits

OPTIMIZERS = {
    "adam": lambda: optimizers.Adam(0.03),
    "sgd": lambda: optimizers.SGD(0.03, momentum=0.87),
    "averaged": lambda: optimizers.RMSprop(0.003, use_ema=True, ema_momentum=0.87),
    "legacy": lambda: optimizers.legacy.Adam(0.03),
    "scaled": lambda: tf_keras.mixed_precision.LossScaleOptimizer(optimizers.Adam(0.03)),
}


def data():
    generator = np.random.default_rng(3)
    return [generator.standard_normal((16, 4)).astype("float32") for _ in range(2)]


def build(optimizer="adam"):
    """Layers of one shape, so that a slot which gets to the wrong one fits there."""
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(5)
    model = tf_keras.Sequential([layers.Dense(4, "tanh", use_bias=name == "a", name=name) for name in "abcd"])
    model.build((None, 4))
    model.compile(OPTIMIZERS[optimizer](), "mse")
    return model


def outcome(model):
    """The weights in standard form after two more steps, which depend on every slot."""
    x, y = data()
    for _ in range(2):
        model.train_on_batch(x, y)
    with rewriter.standard_form(model):
        return [bits(weight.numpy()) for weight in model.weights]


def saved(path, optimizer="adam", rewritten=False):
    """Save a model after two steps; returns what it goes on to."""
    model = build(optimizer)
    if rewritten:
        rewriter.rewrite(model, optimizer="keep")
    for _ in range(2):
        model.train_on_batch(*data())
    model.save_weights(path)
    return outcome(model)


def keep(model):
    rewriter.rewrite(model, optimizer="keep")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_loaded_then_rewritten(optimizer, tmp_path):
    """The state that the checkpoint has is carried, as if the model had been trained here."""
    expected = saved(tmp_path / "checkpoint", optimizer)
    model = build(optimizer)
    model.load_weights(tmp_path / "checkpoint")
    keep(model)
    assert outcome(model) == expected


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_loaded_inside_standard_form(optimizer, tmp_path):
    """As the README advises for a checkpoint of the standard form."""
    expected = saved(tmp_path / "checkpoint", optimizer)
    model = build(optimizer)
    keep(model)
    with rewriter.standard_form(model):
        model.load_weights(tmp_path / "checkpoint")
    assert outcome(model) == expected


@pytest.mark.parametrize("change", ["split", "standard_form", "export", "save", "rewrite the rest"])
def test_the_rewritten_form_loaded_then_changed(change, tmp_path):
    """Before a change of form the state gets to where it was saved for."""
    expected = saved(tmp_path / "checkpoint", rewritten=True)
    model = build()
    keep(model)
    model.load_weights(tmp_path / "checkpoint")
    if change == "split":
        rewriter.split(model)
    elif change == "standard_form":
        with rewriter.standard_form(model):
            pass
    elif change == "export":
        rewriter.export(model, tmp_path / "exported.keras")
        model = tf_keras.models.load_model(tmp_path / "exported.keras")
    elif change == "save":
        rewriter.save_model(model, tmp_path / "saved.keras")
        model = rewriter.load_model(tmp_path / "saved.keras")
    else:
        keep(model)
    assert outcome(model) == expected


def test_the_default_optimizer_goes_on_with_a_velocity_that_was_put_off(tmp_path):
    """And a state that is lost is counted: none was, before."""
    saved(tmp_path / "sgd", "sgd")
    saved(tmp_path / "adam", "adam")
    trained, loaded = build("sgd"), build("sgd")
    for _ in range(2):
        trained.train_on_batch(*data())
    loaded.load_weights(tmp_path / "sgd")
    for model in (trained, loaded):
        rewriter.rewrite(model)
    assert outcome(trained) == outcome(loaded)
    model = build("adam")
    model.load_weights(tmp_path / "adam")
    with pytest.warns(UserWarning, match="10 slots and 2 iterations"):
        rewriter.rewrite(model)


def step(model, optimizer):
    x, y = data()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
    optimizer.apply_gradients(
        zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
    )


def in_a_loop(path, rewritten=False):
    """Save a model and the optimizer of a loop of one's own."""
    model, optimizer = build(), optimizers.Adam(0.03)
    if rewritten:
        rewriter.rewrite(model, optimizer=optimizer)
    step(model, optimizer)
    return tf.train.Checkpoint(optimizer=optimizer, net=model).save(path)


@pytest.mark.parametrize("rewritten", [False, True], ids=["rewrite", "split"])
def test_an_optimizer_of_a_loop_refuses_what_was_saved_for_the_other_form(rewritten, tmp_path):
    """Nothing that a model leads to holds it; its first step says what to call, and moves nothing."""
    path = in_a_loop(tmp_path / "checkpoint", rewritten)
    model, optimizer = build(), optimizers.Adam(0.03)
    if rewritten:
        keep(model)
    tf.train.Checkpoint(optimizer=optimizer, net=model).restore(path)
    rewriter.split(model) if rewritten else rewriter.rewrite(model)
    before = [bits(weight) for weight in model.get_weights()]
    with pytest.raises(rewriter.OptimizerError, match=r"optimizer\.build\(model\.trainable_variables\) right after"):
        step(model, optimizer)
    assert [bits(weight) for weight in model.get_weights()] == before


def test_an_optimizer_of_a_loop_that_is_given_goes_on(tmp_path):
    """It is built for the weights that the checkpoint was written for."""
    path = in_a_loop(tmp_path / "checkpoint")
    results = []
    for given in (False, True):
        model, optimizer = build(), optimizers.Adam(0.03)
        tf.train.Checkpoint(optimizer=optimizer, net=model).restore(path)
        if given:
            rewriter.rewrite(model, optimizer=optimizer)
        step(model, optimizer)
        with rewriter.standard_form(model):
            results.append([bits(weight.numpy()) for weight in model.weights])
    assert results[0] == results[1]


def test_a_checkpoint_of_the_standard_form_is_refused_by_a_merged_layer(tmp_path):
    """Keras would load nothing and not say so, and a split would get the old values later."""
    saved(tmp_path / "checkpoint")
    model = build()
    keep(model)
    before = [bits(weight) for weight in model.get_weights()]
    with pytest.raises(rewriter.ModelError, match=r"kernel of a by itself.*with rewriter\.standard_form\(model\)"):
        model.load_weights(tmp_path / "checkpoint")
    assert [bits(weight) for weight in model.get_weights()] == before


def test_a_checkpoint_of_the_rewritten_form_in_a_plain_model(tmp_path):
    """A rewrite would put its values over those that the model has been trained to since."""
    saved(tmp_path / "checkpoint", rewritten=True)
    model = build()
    model.load_weights(tmp_path / "checkpoint")
    with pytest.raises(rewriter.OptimizerError, match="saved while the model was rewritten"):
        model.train_on_batch(*data())
    file = tmp_path / "model.keras"
    rewrite = functools.partial(rewriter.rewrite, check=False)
    for use in (rewrite, *(functools.partial(write, path=file) for write in (rewriter.export, rewriter.save_model))):
        with pytest.raises(rewriter.ModelError, match="a: a checkpoint of the rewritten form was loaded while"):
            use(model)
    assert not file.exists()


def test_a_checkpoint_of_a_centered_optimizer_is_refused_by_one_that_is_kept(tmp_path):
    """Its first moments are those of other coordinates."""
    model = build()
    rewriter.rewrite(model, rewriter.Centered(optimizers.Adam(0.03)))
    model.compile(model.optimizer, "mse")
    model.train_on_batch(*data())
    model.save_weights(tmp_path / "checkpoint")
    for centered in (True, False):
        other = build()
        other.compile(optimizers.Adam(0.03), "mse")
        rewriter.rewrite(other, "centered" if centered else "keep")
        other.load_weights(tmp_path / "checkpoint")
        if centered:
            other.train_on_batch(*data())
        else:
            with pytest.raises(rewriter.OptimizerError, match="it had while it was centered"):
                other.train_on_batch(*data())


class OnMeans(rewriter.JointOptimizer):
    """A rule that asks its layers for their inputs, and keeps a momentum."""

    slots = {"velocity": "full"}
    statistics = {"input_mean": 0.9}

    def update_layer(self, gradient, variable, layout):
        del layout
        velocity = self.slot("velocity", variable)
        mean = tf.concat([self.statistic("input_mean", variable), [[0.0]]], 0)
        velocity.assign(0.9 * velocity + gradient - mean * gradient[-1:])
        variable.assign_sub(0.03 * velocity)


OBSERVING = {
    "centered Adam": lambda: rewriter.Centered(optimizers.Adam(0.03)),
    "centered momentum": lambda: rewriter.Centered(optimizers.SGD(0.03, 0.9)),
    "centered joint momentum": lambda: rewriter.JointMomentum(0.03, 0.9, centered=True),
    "loss scale": lambda: tf_keras.mixed_precision.LossScaleOptimizer(rewriter.Centered(optimizers.Adam(0.03))),
    "a rule of one's own": OnMeans,
}


@pytest.mark.parametrize("restored", ["before the optimizer is built", "after that"])
@pytest.mark.parametrize("rule", OBSERVING)
def test_what_was_seen_and_the_slots_are_restored_each_to_its_own(rule, restored, tmp_path):
    """The vectors of LayerNormalization, their slots and what a layer saw have one shape, and would fit each other."""

    def make():
        tf_keras.backend.clear_session()
        tf_keras.utils.set_random_seed(5)
        model = tf_keras.Sequential(
            [layers.Dense(4, "relu", input_shape=(4,)), layers.Dense(5), layers.LayerNormalization(), layers.Dense(4)]
        )
        rewriter.rewrite(model, OBSERVING[rule]())
        model.compile(model.optimizer, "mse")
        return model, tf.train.Checkpoint(model=model)

    x, y = data()
    model, checkpoint = make()
    model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    path = checkpoint.save(tmp_path / "checkpoint")
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    other, checkpoint = make()
    if restored == "after that":
        other.optimizer.build(other.trainable_variables)
    checkpoint.restore(path)
    other.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    assert [bits(each.numpy()) for each in other.variables] == [bits(each.numpy()) for each in model.variables]
    of_one, of_other = ([bits(each.numpy()) for each in each.optimizer.variables] for each in (model, other))
    assert of_one == of_other
