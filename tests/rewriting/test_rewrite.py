"""There and back in memory: every bit, name, class and place is as it was."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from arrays import bits
from model_state import merged_layers, state
from models import MODELS, batch, fit, trained_pair
from rewriter.model.walk import locate_layers
from tensorflow_models import WITH_TENSORFLOW, own_call, own_steps, tied
from zoo import ZOO

EVERY = {**MODELS, **ZOO, **WITH_TENSORFLOW}
ALL_MODELS = pytest.mark.parametrize("builder", EVERY.values(), ids=EVERY)


@ALL_MODELS
def test_there_and_back(builder):
    """A rewritten model computes the very same numbers, eagerly and in a graph, and the same losses of regularizers.

    Split, it has every weight, bit for bit, with names, order, classes, and nothing left over.
    """
    model = builder()
    x, _ = batch()
    graph = model.predict(x, verbose=0)
    eager, losses = model(x), [bits(loss) for loss in model.losses]  # activity losses speak of the last batch
    before = state(model)
    rewriter.rewrite(model)
    assert merged_layers(model)
    assert bits(model.predict(x, verbose=0)) == bits(graph)
    assert bits(model(x)) == bits(eager)
    assert [bits(loss) for loss in model.losses] == losses
    rewriter.split(model)
    assert state(model) == before


@pytest.mark.slow
@ALL_MODELS
def test_five_epochs_of_adam_are_bit_equal(builder):
    """Adam takes the rewritten model through the same weights as the original; split, it trains on its own weights."""
    original, model = trained_pair(builder, epochs=0)
    rewriter.rewrite(model, optimizer=tf_keras.optimizers.Adam())
    fit(original, epochs=5)
    fit(model, epochs=5)
    dense = [layer for layer in merged_layers(model) if layer.trainable]
    rewriter.split(model)
    assert [bits(weight.numpy()) for weight in model.weights] == [bits(weight.numpy()) for weight in original.weights]
    before = [weight.numpy() for layer in dense for weight in (layer.kernel, layer.bias)]
    fit(original)
    fit(model)
    after = [weight.numpy() for layer in dense for weight in (layer.kernel, layer.bias)]
    # Some may have no gradient here, behind a ReLU that is never active.
    assert any((now != then).any() for now, then in zip(after, before, strict=True))
    assert [bits(weight.numpy()) for weight in model.weights] == [bits(weight.numpy()) for weight in original.weights]


def merged_after(model):
    return [decision.target for decision in rewriter.plan(model).merges]


def test_weight_regularizer_keeps_value_and_gradient():
    """A weight regularizer's loss reaches the live W*, with the same value and gradient, row by row, as before."""
    model = MODELS["regularized"]()
    first, second = model.layers
    x, _ = batch()
    with tf.GradientTape() as tape:
        model(x)
        losses = model.losses
        total = sum(losses)
    weights = [first.kernel, first.bias, second.kernel, second.bias]
    expected = [gradient.numpy() for gradient in tape.gradient(total, weights)]
    rewriter.rewrite(model)
    with tf.GradientTape() as tape:
        model(x)
        again = model.losses
        total = sum(again)
    gradients = tape.gradient(total, [first.augmented_kernel, second.augmented_kernel])
    assert [bits(loss) for loss in again] == [bits(loss) for loss in losses]
    assert bits(gradients[0]) == bits(np.vstack([expected[0], expected[1]]))
    assert bits(gradients[1]) == bits(np.vstack([expected[2], expected[3]]))
    value = first.losses[0].numpy()
    first.augmented_kernel.assign(2 * first.augmented_kernel)
    assert first.losses[0].numpy() == 4 * value
    rewriter.split(model)
    first.kernel.assign(first.kernel / 4)
    assert first.losses[0].numpy() == value / 4


def test_rewrite_is_in_place_with_one_variable_a_layer():
    """Same model, same layers, same names; one trainable augmented_kernel a layer; kernel and bias are its views."""
    model = MODELS["nested"]()
    kept = [(id(located.layer), located.layer.name) for located in locate_layers(model)]
    values = {id(layer): (layer.kernel.numpy(), layer.bias.numpy()) for layer in merged_after(model)}
    assert rewriter.rewrite(model) is model
    assert [(id(located.layer), located.layer.name) for located in locate_layers(model)] == kept
    layers_now = merged_layers(model)
    assert len(layers_now) == len(values) == 3
    for layer in layers_now:
        kernel, bias = values[id(layer)]
        assert [weight is layer.augmented_kernel for weight in layer.trainable_weights] == [True]
        assert layer.augmented_kernel.name.endswith("/augmented_kernel:0")
        assert bits(layer.augmented_kernel.numpy()) == bits(np.vstack([kernel, bias]))
        assert (bits(layer.kernel), bits(layer.bias)) == (bits(kernel), bits(bias))
        assert rewriter.layout_of(layer.augmented_kernel).shape == (kernel.shape[0] + 1, kernel.shape[1])
        assert isinstance(layer, layers.Dense)


@pytest.mark.parametrize("name", ["shared", "shared_across_levels", "nested_called_twice"])
def test_a_shared_layer_has_one_augmented_kernel(name):
    """A Dense shared by identity has one W*, and the parameter count stays."""
    model = MODELS[name]()
    count = model.count_params()
    rewriter.rewrite(model)
    assert model.count_params() == count
    assert len(model.trainable_weights) == 2


def test_rewrite_twice_is_a_no_op():
    """A rewritten model keeps its variables and its optimizer when it is rewritten again."""
    model = MODELS["sequential"]()
    model.compile("sgd", "mse")
    rewriter.rewrite(model)
    fit(model)
    kernels, optimizer = [layer.augmented_kernel for layer in merged_layers(model)], model.optimizer
    rewriter.rewrite(model)
    assert all(layer.augmented_kernel is kernel for layer, kernel in zip(merged_layers(model), kernels, strict=True))
    assert model.optimizer is optimizer


def test_a_partial_rewrite_is_completed():
    """What was excluded the first time is merged the second, the rest left as it is."""
    model = MODELS["nested"]()
    rewriter.rewrite(model, exclude="last")
    kernels = [layer.augmented_kernel for layer in merged_layers(model)]
    assert len(kernels) == 2
    rewriter.rewrite(model)
    assert len(merged_layers(model)) == 3
    assert merged_layers(model)[0].augmented_kernel is kernels[0]


def test_a_fitted_model_fitted_again_moves_its_augmented_kernels():
    """The functions that fit has traced are not used on: they hold variables that are gone."""
    model = MODELS["sequential"]()
    model.compile("sgd", "mse")
    fit(model)
    x, _ = batch()
    model.predict(x, verbose=0)
    rewriter.rewrite(model)
    before = [layer.augmented_kernel.numpy() for layer in merged_layers(model)]
    fit(model)
    for layer, value in zip(merged_layers(model), before, strict=True):
        moved = layer.augmented_kernel.numpy() != value
        assert moved[:-1].any()
        assert moved[-1].any()
    assert bits(model.predict(x, verbose=0)) == bits(tf.function(model)(tf.constant(x)))


def test_a_model_of_the_other_keras_is_refused_by_name():
    """Such a model would match no layer at all; where both are asked for in one call, it is said which is which."""
    of_keras_3, of_tf_keras = (each.Sequential([each.layers.Dense(2)]) for each in (keras, tf_keras))
    with pytest.raises(rewriter.ModelError, match=r"belongs to Keras 3: rewriter\.keras3 takes it\."):
        rewriter.verify(of_tf_keras, of_keras_3)
    with pytest.raises(rewriter.ModelError, match=r"expected a keras model.*belongs to tf-keras: rewriter takes it\."):
        rewriter.keras3.plan(of_tf_keras)
    with pytest.raises(rewriter.ModelError, match=r"expected a tf_keras model, got str\."):
        rewriter.plan("model.keras")


def test_a_name_that_only_eager_keras_takes():
    """Letters that a graph's scopes refuse: such a model is rewritten, trained eagerly and split like any other."""
    model = TwoDense()
    model(batch()[0])
    model.compile("sgd", "mse", run_eagerly=True)
    before = state(model)
    rewriter.rewrite(model)
    assert [layer.augmented_kernel.name for layer in merged_layers(model)] == ["two_dense/größe/augmented_kernel:0"]
    rewriter.split(model)
    assert state(model) == before
    fit(rewriter.rewrite(model))


class TwoDense(tf_keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3, name="größe")

    def call(self, inputs):
        return self.dense(inputs)


def test_every_model_over_the_same_layers_uses_the_live_variables():
    """A second model over some of the layers, with functions traced before, computes with what is trained now."""
    inputs = tf_keras.Input((5,))
    code = layers.Dense(4, name="code")(inputs)
    whole, encoder = tf_keras.Model(inputs, layers.Dense(3)(code)), tf_keras.Model(inputs, code)
    whole.compile("sgd", "mse")
    x, _ = batch()
    encoder.predict(x, verbose=0)
    for change in (rewriter.rewrite, rewriter.split):
        change(whole)
        fit(whole)
        assert bits(encoder.predict(x, verbose=0)) == bits(tf.function(encoder)(tf.constant(x)))


def test_the_gradient_of_a_tied_kernel_reaches_the_augmented_kernel():
    """What another layer does with the kernel has its share in the gradient; the bias row has none of it."""
    model = tied()
    x, _ = batch()
    code = tf.constant(x[:, :4])

    def gradient(*weights):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.matmul(code, model.encoder.kernel, transpose_b=True) ** 2)
        return tape.gradient(loss, weights, unconnected_gradients="zero")

    kernel, bias = gradient(model.encoder.kernel, model.encoder.bias)
    rewriter.rewrite(model)
    (augmented,) = gradient(model.encoder.augmented_kernel)
    assert bits(augmented) == bits(np.vstack([kernel, bias]))


def test_call_keeps_its_parameters():
    """Wrappers ask a layer's call which arguments it takes before they pass training or a mask."""
    model = own_call()
    layer = model.layers[0]
    before = inspect.getfullargspec(layer.call)
    assert "training" in before.args
    rewriter.rewrite(model)
    assert inspect.getfullargspec(layer.call) == before


def test_custom_steps_keep_working():
    """A model's own train_step and test_step are what fit and evaluate go on using."""
    original, model = trained_pair(own_steps)
    rewriter.rewrite(model, optimizer="keep")
    assert model.evaluate(*batch(), verbose=0) == original.evaluate(*batch(), verbose=0)
    assert fit(model).history == fit(original).history


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["layer", "model"])
def test_frozen_layers_and_models_stay_and_can_be_thawed(what, when):
    """What is frozen, before the rewrite or after, is not trained; thawed later, it is, as the original would be."""

    def freeze(model, frozen):
        (model.get_layer("inner") if what == "model" else model.get_layer("last")).trainable = not frozen
        model.compile(tf_keras.optimizers.Adam(), "mse")

    original, model = trained_pair(MODELS["nested"])
    if when == "before":
        freeze(model, frozen=True)
        rewriter.rewrite(model, optimizer="keep")
    else:
        rewriter.rewrite(model, optimizer="keep")
        freeze(model, frozen=True)
    freeze(original, frozen=True)
    for frozen in (True, False):
        freeze(original, frozen)
        freeze(model, frozen)
        fit(original)
        fit(model)
        assert rewriter.verify(original, model).same
    rewriter.split(model)
    assert rewriter.verify(original, model).same


def test_an_unbuilt_model_is_an_error_that_says_how_to_build_it():
    """Nothing would be merged, and training would go on as if all were well."""
    model = tf_keras.Sequential([layers.Dense(4, name="one"), layers.Dense(3, name="two")])
    with pytest.raises(rewriter.ModelError, match=r"not built: one, two\. Call it on a batch, or model\.build"):
        rewriter.rewrite(model)
    assert model.optimizer is None


def test_a_partly_built_model_is_rewritten_as_far_as_it_is_built():
    """The built layers are merged, a warning names the others; rewritten again once they are built, it is complete."""
    model = ZOO["subclassed"]()
    model.spare = layers.Dense(2, name="spare")
    with pytest.warns(UserWarning, match=r"spare: not built, .*rewrite the model again"):
        rewriter.rewrite(model)
    assert len(merged_layers(model)) == 7
    model.spare(tf.zeros((1, 3)))
    rewriter.rewrite(model)
    assert len(merged_layers(model)) == 8


class Traced(layers.Dense):
    """A helper that is a tf.function, called in a call that is none."""

    @tf.function
    def helper(self, inputs):
        return inputs @ self.kernel + self.bias

    def call(self, inputs):
        return self.helper(inputs)


class TracedWhole(layers.Dense):
    """A call that is a tf.function itself."""

    @tf.function
    def call(self, inputs):
        return inputs @ self.kernel + self.bias


@pytest.mark.parametrize("cls", [Traced, TracedWhole])
def test_a_function_inside_a_layer_reads_the_weights_of_the_moment(cls):
    """Views that a call has made are not kept by a function traced in it: the layer trains, and follows assignments."""
    original, model = trained_pair(lambda: tf_keras.Sequential([cls(4, input_shape=(5,)), layers.Dense(3)]))
    rewriter.rewrite(model, "keep")
    x, _ = batch()
    model(x)
    layer = model.layers[0]
    assert fit(model).history == fit(original).history
    weights = layer.get_weights()
    layer.set_weights([weight * 0 for weight in weights])
    assert not layer(x).numpy().any()
    layer.set_weights(weights)
    rewriter.split(model)
    assert fit(model).history == fit(original).history


def test_where_nothing_is_merged_the_optimizer_stays():
    """With a week of training in it; a warning says so, and an optimizer that is given is taken all the same."""
    _, model = trained_pair(lambda: tf_keras.Sequential([layers.Dense(3, use_bias=False, input_shape=(5,))]))
    adam = model.optimizer
    for optimizer in (None, "keep"):
        with pytest.warns(UserWarning, match="is left as it is, its optimizer too.*says why of each"):
            rewriter.rewrite(model, optimizer)
        assert model.optimizer is adam
    sgd = tf_keras.optimizers.SGD(0.1)
    rewriter.rewrite(model, sgd)
    assert model.optimizer is sgd
