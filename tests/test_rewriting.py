"""There and back in memory: every bit, name, class and place is as it was."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from conftest import bits
from models import MODELS, batch, fit, trained_pair
from rewriter import keras_internals, surgery
from rewriter.walk import locate_layers
from zoo import ZOO

EVERY = {**MODELS, **ZOO}
ALL_MODELS = pytest.mark.parametrize("builder", EVERY.values(), ids=EVERY)


def state(model):
    """What a model is made of, as far as rewriting could disturb it."""
    found = [model, *(located.layer for located in locate_layers(model))]
    return {
        "weights": [(weight.name, bits(weight.numpy())) for weight in model.weights],
        "trainable": [weight.name for weight in model.trainable_weights],
        "classes": [type(layer) for layer in found],
        "names": [layer.name for layer in found],
        "attributes": [sorted(set(vars(layer)) - {"_obj_reference_counts_dict"}) for layer in found],
        "losses": [len(layer._callable_losses) for layer in found],
        "checkpoint": [
            sorted(reference.name for reference in getattr(layer, "_self_unconditional_checkpoint_dependencies", ()))
            for layer in found
        ],
    }


def merged_layers(model):
    return [located.layer for located in locate_layers(model) if hasattr(located.layer, "augmented_kernel")]


@ALL_MODELS
def test_split_inverts_rewrite(builder):
    """Rewrite then split gives every weight back bit for bit, with names, order, classes, and nothing left over."""
    model = builder()
    model(batch()[0])
    before = state(model)
    rewriter.rewrite(model)
    assert merged_layers(model)
    rewriter.split(model)
    assert state(model) == before


@ALL_MODELS
def test_outputs_are_bit_equal(builder):
    """A rewritten model computes the very same numbers, eagerly and in a graph."""
    model = builder()
    x, _ = batch()
    eager, graph = model(x), model.predict(x, verbose=0)
    rewriter.rewrite(model)
    assert bits(model(x)) == bits(eager)
    assert bits(model.predict(x, verbose=0)) == bits(graph)


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


@ALL_MODELS
def test_losses_are_bit_equal(builder):
    """Kernel, bias and activity regularizers give the same loss values before and after."""
    model = builder()
    model(batch()[0])  # activity losses speak of the last batch
    before = [bits(loss) for loss in model.losses]
    rewriter.rewrite(model)
    model(batch()[0])
    assert [bits(loss) for loss in model.losses] == before


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


def test_standard_form_is_plain_keras_inside_and_the_same_variables_outside():
    """Inside, classes, names and weights are the original's; outside, the same W* objects hold what was assigned."""
    model = MODELS["sequential"]()
    model.compile("sgd", "mse")
    original = state(model)
    rewriter.rewrite(model)
    kernels = [layer.augmented_kernel for layer in merged_layers(model)]
    with rewriter.standard_form(model) as standard:
        assert standard is model
        assert state(model) == original
        assert type(model.optimizer) is tf_keras.optimizers.SGD
        model.layers[0].bias.assign(tf.range(7, dtype="float32"))
    assert all(layer.augmented_kernel is kernel for layer, kernel in zip(merged_layers(model), kernels, strict=True))
    assert bits(model.layers[0].bias) == bits(np.arange(7, dtype="float32"))
    assert isinstance(model.optimizer, rewriter.JointMomentum)


def test_standard_form_restores_the_model_when_the_inside_fails():
    """An error inside goes through, and the model is rewritten again."""
    model = rewriter.rewrite(MODELS["sequential"]())
    with pytest.raises(RuntimeError, match="inside"), rewriter.standard_form(model):
        raise RuntimeError("inside")
    assert len(merged_layers(model)) == 2


def test_fit_goes_on_after_standard_form_without_a_new_trace():
    """Training that is interrupted by a standard form ends where training without it ends, with the same functions."""
    plain, interrupted = trained_pair(MODELS["sequential"], optimizer="sgd")
    for model in (plain, interrupted):
        rewriter.rewrite(model)
        fit(model)
    traced = interrupted.train_function
    with rewriter.standard_form(interrupted):
        interrupted.predict(batch()[0], verbose=0)
    assert interrupted.train_function is traced
    fit(plain)
    fit(interrupted)
    assert [bits(weight.numpy()) for weight in plain.weights] == [
        bits(weight.numpy()) for weight in interrupted.weights
    ]


@pytest.mark.parametrize("optimizer", ["keep", None])
def test_compile_inside_standard_form_is_what_holds_after(optimizer):
    """Another loss is trained on from then on, and an optimizer given inside stays, with its state."""
    _, model = trained_pair(MODELS["sequential"])
    rewriter.rewrite(model, optimizer=optimizer)
    fit(model)
    kept = model.optimizer
    with rewriter.standard_form(model):
        model.compile(model.optimizer, "mae", metrics=["mse"])
    assert model.optimizer is kept
    x, y = batch()
    expected = float(np.abs(model.predict(x, verbose=0) - y).mean())
    assert set(fit(model).history) == {"loss", "mse"}
    model.optimizer.learning_rate.assign(0.0)
    assert model.evaluate(x, y, verbose=0)[0] != expected
    adam = tf_keras.optimizers.Adam(0.01)
    with rewriter.standard_form(model):
        model.compile(adam, "mse")
        fit(model)
    assert model.optimizer is adam
    fit(model)
    assert int(adam.iterations) == 6


class Contrary(layers.Dense):
    """A Dense that computes something else once its class is not its own."""

    def call(self, inputs):
        return super().call(inputs) * (1.0 if type(self) is Contrary else 2.0)


def test_a_layer_that_computes_something_else_once_merged_rolls_everything_back():
    """The gate names the layer, and the model, its optimizer included, is as it was."""
    untouched, model = trained_pair(
        lambda: tf_keras.Sequential([layers.Dense(4, input_shape=(5,)), Contrary(3, name="contrary")])
    )
    before = state(model)
    with pytest.raises(rewriter.DifferenceError, match=r"contrary: its outputs differ by up to"):
        rewriter.rewrite(model, optimizer="keep")
    assert state(model) == before
    fit(untouched)
    fit(model)
    assert [bits(weight.numpy()) for weight in model.weights] == [bits(weight.numpy()) for weight in untouched.weights]


@tf_keras.saving.register_keras_serializable("tests")
class ReadsClass(layers.Layer):
    """Gives something else once the layer before it is not a plain Dense, or no more so."""

    def __init__(self, dense, suspicious=True, **options):
        super().__init__(**options)
        self.watched = [dense]
        self.suspicious = suspicious
        self.scale = self.add_weight("scale", (), initializer="ones")

    def call(self, inputs):
        return inputs * self.scale * (1.0 if (type(self.watched[0]) is layers.Dense) is self.suspicious else 2.0)


def watched_model(suspicious):
    inputs = tf_keras.Input((5,))
    dense = layers.Dense(4, name="watched")
    outputs = ReadsClass(dense, suspicious, name="watcher")(dense(inputs))
    return tf_keras.Model(inputs, layers.Dense(3, name="last")(outputs))


def test_a_model_that_computes_something_else_as_a_whole_rolls_everything_back():
    """Each merged layer alone is as it was; the first layer that gives something else is named, be it not merged."""
    untouched, model = trained_pair(lambda: watched_model(suspicious=True))
    before = state(model)
    with pytest.raises(rewriter.DifferenceError, match=r"^watcher: its outputs differ by up to .* run as a whole"):
        rewriter.rewrite(model, optimizer="keep")
    assert state(model) == before
    fit(untouched)
    fit(model)
    assert rewriter.verify(untouched, model).same
    rewriter.rewrite(model, check=False)
    report = rewriter.verify(untouched, model)
    assert [(one.path, one.what) for one in report.differing] == [
        ("watcher", "outputs"),
        ("last", "outputs"),
        ("model", "outputs"),
    ]


def test_an_export_that_computes_something_else_is_not_written(tmp_path):
    """The rewritten model stays as it is, with its optimizer, and no file is there."""
    _, model = trained_pair(lambda: watched_model(suspicious=False))
    rewriter.rewrite(model, optimizer="keep", check=False)
    optimizer = model.optimizer
    merged, states = state(model), [bits(variable.numpy()) for variable in optimizer.variables]
    with pytest.raises(rewriter.DifferenceError, match=r"^watcher: its outputs differ"):
        rewriter.export(model, tmp_path / "model.keras")
    assert list(tmp_path.iterdir()) == []
    assert state(model) == merged
    assert model.optimizer is optimizer
    assert [bits(variable.numpy()) for variable in optimizer.variables] == states
    fit(model)


def test_the_check_takes_inputs_of_ones_own():
    """A model that does not say what it takes is compared on what is given; what its call changes is put back."""

    class Open(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(4, name="watched")
            self.norm = layers.BatchNormalization()
            self.watcher = ReadsClass(self.dense)

        def call(self, inputs):
            return self.watcher(self.norm(self.dense(inputs["a"] + inputs["b"]), training=True))

    x = tf.constant(batch()[0])
    model = Open()
    model({"a": x, "b": x})
    model._saved_model_inputs_spec = None
    rewriter.split(rewriter.rewrite(model))
    before = state(model)
    with pytest.raises(rewriter.DifferenceError, match=r"^watcher: its outputs differ"):
        rewriter.rewrite(model, inputs={"a": x, "b": x})
    assert state(model) == before


class Noisy(layers.Dense):
    """A Dense that draws random numbers in each call, as exploring agents have it."""

    def call(self, inputs):
        return super().call(inputs) + tf.random.normal((self.units,))


def test_a_layer_that_draws_random_numbers_is_merged():
    """It differs from itself in each call, so a difference says nothing about the merge."""
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(5,)), Noisy(3)])
    rewriter.rewrite(model)
    assert len(merged_layers(model)) == 2


def test_any_failure_rolls_everything_back(monkeypatch):
    """Whatever is raised while layers are merged, the model is as it was."""
    model = MODELS["nested"]()
    before = state(model)
    real, calls = surgery.merge, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise MemoryError("third layer")
        real(*arguments)

    monkeypatch.setattr(surgery, "merge", failing)
    with pytest.raises(MemoryError, match="third layer"):
        rewriter.rewrite(model)
    assert state(model) == before


def test_a_failure_in_the_optimizer_rolls_everything_back(monkeypatch):
    """When its slots cannot be carried after all, the optimizer has the old ones again, and training goes on."""
    untouched, model = trained_pair(MODELS["nested"])
    before, optimizer = state(model), [bits(variable.numpy()) for variable in model.optimizer.variables]

    real = keras_internals.rebuild_slots

    def fail(*arguments):
        real(*arguments)
        raise MemoryError("no room for slots")

    monkeypatch.setattr(keras_internals, "rebuild_slots", fail)
    with pytest.raises(MemoryError, match="no room for slots"):
        rewriter.rewrite(model, optimizer="keep")
    assert state(model) == before
    assert [bits(variable.numpy()) for variable in model.optimizer.variables] == optimizer
    fit(untouched)
    fit(model)
    assert rewriter.verify(untouched, model).same


def test_a_model_of_keras_3_is_refused_by_name():
    """A Keras 3 model would match no layer at all; it is refused, with what to do."""
    with pytest.raises(rewriter.ModelError, match=r"Keras 3.*TF_USE_LEGACY_KERAS=1"):
        rewriter.rewrite(keras.Sequential([keras.layers.Dense(2)]))
    with pytest.raises(rewriter.ModelError, match=r"expected a tf_keras model, got builtins\.str"):
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
    model = ZOO["tied"]()
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
    model = ZOO["own_call"]()
    layer = model.layers[0]
    before = inspect.getfullargspec(layer.call)
    assert "training" in before.args
    rewriter.rewrite(model)
    assert inspect.getfullargspec(layer.call) == before


def test_custom_steps_keep_working():
    """A model's own train_step and test_step are what fit and evaluate go on using."""
    original, model = trained_pair(ZOO["own_steps"])
    rewriter.rewrite(model, optimizer="keep")
    assert model.evaluate(*batch(), verbose=0) == original.evaluate(*batch(), verbose=0)
    assert fit(model).history == fit(original).history


DTYPES = ["float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_policy(dtype):
    """Outputs, Adam training and the way back are bit-equal in every dtype; W* is stored in the kernel's dtype."""

    def builder():
        return tf_keras.Sequential(
            [
                layers.Dense(16, activation="relu", input_shape=(5,), dtype=dtype, kernel_regularizer="l2"),
                layers.Dense(16, dtype=dtype, kernel_constraint=tf_keras.constraints.MaxNorm(0.5)),
                layers.Dense(3, dtype="float32"),
            ]
        )

    def optimizer():
        adam = tf_keras.optimizers.Adam(0.01, epsilon=1e-3)
        return tf_keras.mixed_precision.LossScaleOptimizer(adam) if dtype == "mixed_float16" else adam

    original, model = trained_pair(builder, optimizer)
    before = state(model)
    stored = model.layers[0].kernel.dtype
    rewriter.rewrite(model, optimizer="keep")
    assert merged_layers(model)[0].augmented_kernel.dtype == stored
    assert bits(model(batch()[0])) == bits(original(batch()[0]))
    rewriter.split(model)
    assert state(model) == before
    rewriter.rewrite(model, optimizer="keep")
    fit(original, epochs=2)
    fit(model, epochs=2)
    rewriter.split(model)
    assert [bits(weight.numpy()) for weight in model.weights] == [bits(weight.numpy()) for weight in original.weights]


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


@pytest.mark.parametrize("kind", ["ragged", "sparse"])
def test_ragged_and_sparse_inputs(kind):
    """A Dense called on a ragged or sparse tensor computes the same, and its gradient is the same."""
    dense = layers.Dense(4, activation="tanh")
    model = tf_keras.Sequential([tf_keras.Input((5,)), dense])
    x, _ = batch(6)
    inputs = tf.RaggedTensor.from_row_lengths(x, [2, 0, 4]) if kind == "ragged" else tf.sparse.from_dense(x)

    def run(*weights):
        with tf.GradientTape() as tape:
            outputs = dense(inputs)
            flat = outputs.flat_values if kind == "ragged" else outputs
            loss = tf.reduce_sum(flat**2)
        return flat.numpy(), [tf.convert_to_tensor(each).numpy() for each in tape.gradient(loss, weights)]

    outputs, (kernel, bias) = run(dense.kernel, dense.bias)
    rewriter.rewrite(model)
    again, (augmented,) = run(dense.augmented_kernel)
    assert bits(again) == bits(outputs)
    assert bits(augmented) == bits(np.vstack([kernel, bias]))


@pytest.mark.parametrize("container", [dict, list])
def test_many_inputs_and_outputs_in_dicts_and_lists(container):
    """Models that take and give dicts or lists are rewritten like any other."""

    def arrange(first, second):
        return {"a": first, "b": second} if container is dict else [first, second]

    inputs = tf_keras.Input((5,), name="a"), tf_keras.Input((5,), name="b")
    hidden = layers.Dense(4, name="hidden")(inputs[0]) + layers.Dense(4, name="other")(inputs[1])
    outputs = layers.Dense(2, name="x")(hidden), layers.Dense(1, name="y")(hidden)
    model = tf_keras.Model(arrange(*inputs), arrange(*outputs))
    x, _ = batch()
    given = arrange(tf.constant(x), 2 * tf.constant(x))
    before, expected = state(model), model(given)
    rewriter.rewrite(model)
    assert len(merged_layers(model)) == 4
    tf.nest.map_structure(np.testing.assert_array_equal, model(given), expected)
    rewriter.split(model)
    assert state(model) == before


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
        with pytest.warns(UserWarning, match="is left as it is, its optimizer too.*layers='all'"):
            rewriter.rewrite(model, optimizer)
        assert model.optimizer is adam
    sgd = tf_keras.optimizers.SGD(0.1)
    rewriter.rewrite(model, sgd)
    assert model.optimizer is sgd
