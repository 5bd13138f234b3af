"""A change of form in the middle of ``fit``, from any hook of a callback: it holds from the next step on."""

import numpy as np
import pytest
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from arrays import bits
from models import batch

TRAINING = (
    "on_train_begin",
    "on_epoch_begin",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_test_begin",
    "on_test_batch_begin",
    "on_test_batch_end",
    "on_test_end",
    "on_epoch_end",
    "on_train_end",
)
PREDICTING = ("on_predict_begin", "on_predict_batch_begin", "on_predict_batch_end", "on_predict_end")


class Once(tf_keras.callbacks.Callback):
    """Does something to the model once in each of some hooks, in its second call if it is called twice."""

    def __init__(self, change, *hooks):
        super().__init__()
        self.done = []
        for hook in hooks:
            calls = iter([hook in {"on_train_begin", "on_train_end"} or "predict_begin" in hook, True])
            setattr(self, hook, lambda *_, hook=hook, calls=calls: self.called(hook, calls, change))

    def called(self, hook, calls, change):
        if hook not in self.done and (next(calls) or hook == "on_predict_end"):
            self.done.append(hook)
            change(self.model)


def build():
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(5)
    model = tf_keras.Sequential(
        [layers.Dense(16, "tanh", input_shape=(5,), name="a"), layers.BatchNormalization(), layers.Dense(3, name="b")]
    )
    model.compile(optimizers.Adam(0.01), "mse")
    return model


def train(model, callback=None):
    tf_keras.utils.set_random_seed(5)
    x, y = batch()
    history = model.fit(
        x,
        y,
        epochs=3,
        batch_size=8,
        shuffle=False,
        verbose=0,
        validation_data=(x[:16], y[:16]),
        validation_batch_size=8,
        callbacks=[callback] if callback else [],
    )
    with rewriter.standard_form(model):
        return history.history, [bits(weight) for weight in model.get_weights()]


@pytest.fixture(scope="module")
def undisturbed():
    """What training gives where nothing happens in between."""
    return train(build())


def standard(model):
    with rewriter.standard_form(model):
        assert type(model.layers[0]) is layers.Dense


@pytest.mark.parametrize("change", ["rewrite", "split"])
@pytest.mark.parametrize("hook", TRAINING)
def test_every_hook_of_fit(hook, change, undisturbed):
    """Training goes on bit for bit, validation too."""
    model = build()
    if change == "split":
        rewriter.rewrite(model, optimizer="keep")
    callback = Once(rewriter.split if change == "split" else lambda each: rewriter.rewrite(each, "keep"), hook)
    assert train(model, callback) == undisturbed
    assert callback.done == [hook]
    assert (type(model.layers[0]) is layers.Dense) is (change == "split")


@pytest.mark.parametrize("change", ["standard_form", "export"])
def test_standard_form_for_a_while_in_every_hook_of_fit(change, tmp_path, undisturbed):
    """A file is written, or another tool looks at the model, in each hook in turn: training goes on bit for bit."""
    model = rewriter.rewrite(build(), optimizer="keep")
    path = tmp_path / "exported.keras"
    callback = Once(
        standard if change == "standard_form" else lambda each: rewriter.export(each, path, True), *TRAINING
    )
    assert train(model, callback) == undisturbed
    assert sorted(callback.done) == sorted(TRAINING)
    assert path.exists() is (change == "export")


@pytest.mark.parametrize("change", ["rewrite", "split", "standard_form"])
@pytest.mark.parametrize("hook", PREDICTING)
def test_every_hook_of_predict(hook, change):
    """What is predicted is the same."""
    model = build()
    x, _ = batch()
    expected = bits(model.predict(x, batch_size=8, verbose=0))
    changes = {"rewrite": lambda each: rewriter.rewrite(each, "keep"), "split": rewriter.split}
    if change != "rewrite":
        rewriter.rewrite(model, optimizer="keep")
    callback = Once(changes.get(change, standard), hook)
    assert bits(model.predict(x, batch_size=8, verbose=0, callbacks=[callback])) == expected
    assert callback.done == [hook]


def test_joint_momentum_takes_over_in_the_middle_of_fit():
    """After two steps of SGD it goes on with the next one, as it does between two calls of fit."""
    x, y = batch()
    models = []
    for hook in ("between", "on_train_batch_end"):
        model = build()
        model.compile(optimizers.SGD(0.1, momentum=0.87), "mse")
        if hook == "between":
            model.fit(x[:16], y[:16], batch_size=8, shuffle=False, verbose=0)
            rewriter.rewrite(model)
            model.fit(x[16:], y[16:], batch_size=8, shuffle=False, verbose=0)
        else:
            callback = Once(rewriter.rewrite, hook)
            model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=[callback])
        assert isinstance(model.optimizer, rewriter.JointMomentum)
        assert model.optimizer.iterations.numpy() == 3
        models.append([bits(weight) for weight in model.get_weights()])
    assert models[0] == models[1]


def test_steps_in_one_execution_and_eager_steps():
    """Neither loses its place."""
    x, y = batch(32)
    for options in ({"steps_per_execution": 2}, {"run_eagerly": True}):
        results = []
        for changed in (False, True):
            model = build()
            model.compile(optimizers.Adam(0.01), "mse", **options)
            callbacks = [Once(lambda each: rewriter.rewrite(each, "keep"), "on_train_batch_end")] if changed else []
            model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
            with rewriter.standard_form(model):
                results.append([bits(weight) for weight in model.get_weights()])
        assert results[0] == results[1]
    assert np.isfinite(model.evaluate(x, y, verbose=0))
