"""Which variables training trains was recorded by ``compile``; no change of form records it anew."""

import numpy as np
import pytest
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from arrays import bits


def data():
    generator = np.random.default_rng(3)
    return generator.standard_normal((16, 6)).astype("float32"), generator.standard_normal((16, 1)).astype("float32")


def discriminator():
    """Trains by itself, and is frozen in the model around it, which is compiled later: a GAN."""
    tf_keras.utils.set_random_seed(5)
    inner = tf_keras.Sequential([layers.Dense(8, "relu", input_shape=(6,), name="a"), layers.Dense(1, name="b")])
    inner.compile(optimizers.Adam(1e-2), "mse")
    inner.trainable = False
    around = tf_keras.Sequential([layers.Dense(6, input_shape=(6,), name="generator"), inner])
    around.compile(optimizers.Adam(1e-2), "mse")
    return inner, around


def thawed():
    """Compiled with a frozen layer that was thawed since: it trains from the next ``compile``, not before."""
    tf_keras.utils.set_random_seed(5)
    model = tf_keras.Sequential([layers.Dense(8, "relu", input_shape=(6,), name="a"), layers.Dense(1, name="b")])
    model.layers[0].trainable = False
    model.compile(optimizers.Adam(1e-2), "mse")
    model.layers[0].trainable = True
    around = tf_keras.Sequential([model])
    around.build((None, 6))
    return model, around


def there_and_back(model):
    rewriter.rewrite(model, optimizer="keep")
    rewriter.split(model)


def in_standard_form(model):
    rewriter.rewrite(model, optimizer="keep")
    with rewriter.standard_form(model):
        pass


def rejected(model):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rewriter.optimizers.state.slots.move", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rewriter.rewrite(model, optimizer="keep")


CHANGES = {
    "rewrite": lambda model: rewriter.rewrite(model, optimizer="keep"),
    "split": there_and_back,
    "standard_form": in_standard_form,
    "rolled back": rejected,
}


def weights(model):
    with rewriter.standard_form(model):
        return [bits(weight.numpy()) for weight in model.weights]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("build", [discriminator, thawed], ids=["frozen since", "thawed since"])
@pytest.mark.parametrize("trained", [0, 2], ids=["new", "trained"])
def test_what_compile_recorded_goes_on_being_trained(build, change, trained):
    """Bit for bit what Keras trains, in the model that is changed and in the one around it."""
    x, y = data()
    runs = []
    for changed in (False, True):
        inner, around = build()
        losses = [inner.train_on_batch(x, y) for _ in range(trained)]
        if changed:
            CHANGES[change](inner)
        losses += [inner.train_on_batch(x, y) for _ in range(3)]
        if around._is_compiled:
            losses += [around.train_on_batch(x, y) for _ in range(3)]
        losses += [inner.train_on_batch(x, y) for _ in range(2)]
        runs.append((losses, weights(around)))
    assert runs[0] == runs[1]


def test_a_model_that_is_merely_visited_trains_what_it_did():
    """The model around one that is rewritten has a record, too."""
    x, y = data()
    runs = []
    for changed in (False, True):
        inner, around = discriminator()
        inner.trainable = True  # for the model around, from its next compile
        if changed:
            rewriter.rewrite(inner, optimizer="keep")
        losses = [around.train_on_batch(x, y) for _ in range(3)]
        runs.append((losses, weights(inner)))
    assert runs[0] == runs[1]


@pytest.mark.parametrize("build", [discriminator, thawed], ids=["frozen since", "thawed since"])
def test_joint_momentum_and_its_sgd_train_what_compile_recorded(build, tmp_path):
    """Their slots are made for what training trains, be it frozen or thawed by now; in files too."""
    x, y = data()
    model, _ = build()
    model.optimizer = optimizers.SGD(0.1, momentum=0.9)
    model.train_on_batch(x, y)
    frozen = [bits(weight) for weight in model.layers[0].get_weights()] if build is thawed else None
    rewriter.rewrite(model)
    first = model.train_on_batch(x, y)
    rewriter.export(model, tmp_path / "tuned.h5")
    assert model.train_on_batch(x, y) < first
    rewriter.split(model)
    second = model.train_on_batch(x, y)
    assert model.train_on_batch(x, y) < second
    if frozen:
        assert [bits(weight) for weight in model.layers[0].get_weights()] == frozen
