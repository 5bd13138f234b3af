"""What ``load_weights`` and ``set_weights`` of a rewritten model take: weights of either form, and no others."""

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

import rewriter
from arrays import bits
from models import MODELS, batch, fit


@pytest.mark.parametrize("file", ["model.keras", "model.weights.h5"])
def test_weights_of_the_original_load_straight_into_the_rewritten(tmp_path, file):
    """model.load_weights takes the original's .keras and .weights.h5 files; a layer in a list keeps its path there."""
    model = MODELS["nested"]()
    (model.save if file.endswith(".keras") else model.save_weights)(tmp_path / file)
    expected = model.predict(batch()[0], verbose=0)
    rewriter.rewrite(model)
    for weight in model.weights:
        weight.assign(weight * 0 + 1)
    model.load_weights(tmp_path / file)
    assert bits(model.predict(batch()[0], verbose=0)) == bits(expected)


@pytest.mark.parametrize("optimizer", ["keep", "centered"])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("file", ["model.keras", "model.weights.h5"])
def test_a_file_of_the_original_gives_the_optimizer_its_state(tmp_path, file, scaled, optimizer, caplog):
    """The state was skipped, with a line of Keras's; in a loss scale Keras failed at that line."""
    losses, slots = [], []
    for rewritten in (False, True):
        tf_keras.utils.set_random_seed(0)
        model = MODELS["nested"]()
        adam = tf_keras.optimizers.Adam(0.01)
        model.compile(tf_keras.mixed_precision.LossScaleOptimizer(adam) if scaled else adam, "mse")
        fit(model)
        (model.save if file.endswith(".keras") else model.save_weights)(tmp_path / file, overwrite=True)
        if rewritten:
            rewriter.rewrite(model, optimizer)
        fit(model)
        model.load_weights(tmp_path / file)
        with rewriter.standard_form(model):
            slots.append([each.numpy() for each in adam._velocities])
            first = (each.numpy() for each in adam._momentums)
            state = [int(adam.iterations), *map(bits, model.get_weights()), *map(bits, first)]
        fit(model)
        losses.append((state, model.evaluate(*batch(), verbose=0) if optimizer == "keep" else None))
    assert losses[1] == losses[0]
    for one, other in zip(*slots, strict=True):
        # In centered coordinates mean squares are others, and come back but for rounding.
        np.testing.assert_allclose(one, other, rtol=0 if optimizer == "keep" else 1e-6)
    assert "Skipping" not in caplog.text


@pytest.mark.parametrize("file", ["model.keras", "model.weights.h5"])
def test_weights_of_other_shapes_do_not_load(tmp_path, file):
    """Heads of attention and sizes of a kernel whose products are the same were loaded, into other places."""

    def model(heads, size):
        inputs = tf_keras.Input((4, 4, 8))
        attended = layers.MultiHeadAttention(heads, 8 // heads, name="attention")(inputs, inputs)
        seen = layers.Conv2D(4, size, padding="same", name="convolution")(attended)
        return tf_keras.Model(inputs, layers.Dense(2, name="head")(seen))

    other = model(2, (1, 3))
    (other.save if file.endswith(".keras") else other.save_weights)(tmp_path / file)
    merged = model(4, (3, 1))
    rewriter.rewrite(merged, layers="all")
    before = [*map(bits, merged.get_weights())]
    with pytest.raises(ValueError, match=r"(attention|convolution).*/kernel.*Shape mismatch"):
        merged.load_weights(tmp_path / file)
    assert [*map(bits, merged.get_weights())] == before
    outer = tf_keras.Sequential([merged])  # which loads as Keras does
    held = tf_keras.Sequential([other])
    held.save_weights(tmp_path / "outer.weights.h5")
    with pytest.raises(ValueError, match=r"(attention|convolution).*/kernel has shape .*, and the file has one of"):
        outer.load_weights(tmp_path / "outer.weights.h5")


def test_weights_of_the_other_form_are_refused():
    model, plain = MODELS["nested"](), MODELS["nested"]()
    rewriter.rewrite(model)
    with pytest.raises(rewriter.ModelError, match=r"is merged and has \d+ weights, and was given .*standard_form"):
        model.set_weights(plain.get_weights())
    model.set_weights(model.get_weights())
    rewriter.split(model).set_weights(plain.get_weights())


@pytest.mark.parametrize("by_name", [False, True])
def test_a_legacy_file_of_plain_weights_loads_into_the_rewritten_model(tmp_path, by_name):
    """In the middle of a training, by order and by name; a file that the rewritten model wrote loads as it is."""
    plain, model = (MODELS["nested"]() for _ in range(2))
    for each in (plain, model):
        each.compile("adam", "mse")
        fit(each)
    rewriter.rewrite(model, "keep")
    fit(model)
    state = [bits(each.numpy()) for each in model.optimizer.variables]
    plain.save_weights(tmp_path / "plain.h5")
    model.load_weights(tmp_path / "plain.h5", by_name=by_name)
    assert [bits(each.numpy()) for each in model.optimizer.variables] == state
    model.save_weights(tmp_path / "merged.h5")
    fit(model)
    with rewriter.standard_form(model):
        assert [*map(bits, model.get_weights())] != [*map(bits, plain.get_weights())]
    model.load_weights(tmp_path / "merged.h5", by_name=by_name)
    with rewriter.standard_form(model):
        assert [*map(bits, model.get_weights())] == [*map(bits, plain.get_weights())]
    assert "load_weights" not in vars(rewriter.split(model))
