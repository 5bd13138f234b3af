"""Models of Keras 3 in this process, where its backend is TensorFlow and tf-keras is there too."""

import gc
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from keras import layers

import rewriter
from short_cases import cases

# Keras itself asks a variable for an array in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

X, Y = (np.random.default_rng(0).standard_normal((16, size)).astype("float32") for size in (5, 3))


def network(*inner, compiled=True):
    model = keras.Sequential([keras.Input((5,)), *inner, layers.Dense(3, name="head")])
    if compiled:
        model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def reasons(model):
    left = [each for each in rewriter.plan(model).decisions if each.action == "skip"]
    return {each.path: str(each.reason) for each in left if str(each.reason) != "already merged"}


@pytest.mark.parametrize("kind", cases(["int8", "float8", "LoRA"], {"int8"}))
def test_a_kernel_that_is_not_all_that_a_layer_computes_with(kind):
    """It is left as it is, the others are merged, and training, state and all, goes on bit for bit."""
    weights = []
    for is_rewritten in (False, True):
        keras.utils.set_random_seed(1)
        model = network(layers.Dense(6, activation="tanh", name="first"), layers.Dense(4))
        first = model.get_layer("first")
        if kind == "LoRA":
            first.enable_lora(2)
        else:
            first.quantize(kind)
        model.compile(keras.optimizers.Adam(0.01), "mse")
        model.fit(X, Y, verbose=0)
        if is_rewritten:
            rewriter.rewrite(model, "keep")
            why = "LoRA is enabled on it" if kind == "LoRA" else f"it is quantized to {kind}"
            assert reasons(model) == {"first": f"{why}, so it does not compute with its kernel as it is"}
        model.fit(X, Y, verbose=0)
        if is_rewritten:
            rewriter.split(model)
        model.fit(X, Y, verbose=0)
        weights.append([np.asarray(each) for each in (*model.variables, *model.optimizer.variables)])
    assert all(np.array_equal(*pair) for pair in zip(*weights, strict=True))


@keras.saving.register_keras_serializable()
class Encoder(layers.Layer):
    """As KerasHub has it: attributes that begin as TensorFlow's own do."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._self_attention_layer = layers.MultiHeadAttention(2, 3)

    def call(self, inputs):
        return inputs + self._self_attention_layer(inputs, inputs)


def test_layers_under_names_like_tensorflows_own():
    inputs = keras.Input((4, 5))
    model = keras.Model(inputs, Encoder(name="encoder")(inputs))
    merged = [each.path for each in rewriter.plan(model, layers="all").merges]
    attention = "encoder/_self_attention_layer"
    assert merged == [f"{attention}/{name}" for name in ("_query_dense", "_key_dense", "_value_dense", "_output_dense")]


def test_what_is_not_merged_trains_with_sparse_gradients():
    """An embedding under joint momentum, as in NumPy: rows without a gradient move on."""
    ids = np.array([[1, 1, 2], [4, 2, 1]])
    y = np.random.default_rng(1).standard_normal((2, 3))
    model = keras.Sequential(
        [keras.Input((3,), dtype="int32"), layers.Embedding(6, 4), layers.GlobalAveragePooling1D()]
    )
    model.add(layers.Dense(3))
    table, *stacked = (np.float64(each) for each in model.get_weights())
    kernel, rate = np.vstack(stacked), float(np.float32(0.05))
    model.compile("sgd", "mse")
    rewriter.rewrite(model, rewriter.keras3.JointMomentum(rate, 0.9))
    velocity, mean = 0.0, 0.0
    for _ in range(5):
        model.train_on_batch(ids, y)
        hidden = table[ids].mean(axis=1)
        upstream = 2 * (hidden @ kernel[:-1] + kernel[-1] - y) / y.size
        of_table = np.zeros_like(table)
        np.add.at(of_table, ids, np.repeat(upstream @ kernel[:-1].T / 3, 3, axis=0).reshape(2, 3, 4))
        gradient = np.vstack([hidden.T @ upstream, upstream.sum(axis=0)])
        kernel, mean = kernel - rate * (gradient + 0.9 * mean), gradient.mean(axis=0) + 0.9 * mean
        velocity = of_table + 0.9 * velocity
        table = table - rate * velocity
    assert np.allclose(model.layers[0].embeddings, table, rtol=0, atol=1e-6)
    assert np.allclose(model.layers[-1].augmented_kernel, kernel, rtol=0, atol=1e-6)


def test_the_command_line_reads_which_keras_a_file_is_of(run, tmp_path):
    """The life cycle, each command told nothing of Keras; the state of Adam goes through it."""
    model = network(layers.Dense(4, activation="tanh"))
    model.fit(X, Y, verbose=0)
    plain, centered, tuned = (tmp_path / f"{name}.keras" for name in ("plain", "centered", "tuned"))
    model.save(plain)
    assert run("inspect", plain)[0] == 0
    code, out, err = run("rewrite", plain, centered, "--centered")
    assert (code, err) == (0, "")
    assert "Adam kept, in centered coordinates" in out
    assert "centered: 2 of 2 merged" in out
    loaded = keras.saving.load_model(centered)
    assert rewriter.verify(loaded, model).same
    loaded.fit(X, Y, verbose=0)
    loaded.save(centered)  # by the model's own method, with the means
    assert run("export", centered, tuned)[0] == 0
    assert run("verify", centered, tuned)[0] == 0
    assert int(keras.saving.load_model(tuned).optimizer.iterations) == 2
    with zipfile.ZipFile(tuned) as archive:
        assert b"rewriter" not in b"".join(map(archive.read, ("config.json", "metadata.json")))


def test_each_keras_names_the_other(run, tmp_path):
    """Where both are mixed it is said which is which, and what to take."""
    of_keras_3, of_tf_keras = network(), tf_keras.Sequential([tf_keras.layers.Dense(3, input_shape=(5,))])
    of_tf_keras.compile("sgd", "mse")
    with pytest.raises(rewriter.OptimizerError, match=r"one of tf-keras; make one of rewriter\.keras3\."):
        rewriter.rewrite(of_keras_3, rewriter.JointMomentum())
    with pytest.raises(rewriter.OptimizerError, match=r"one of Keras 3; make one of tf_keras\.optimizers\."):
        rewriter.rewrite(of_tf_keras, keras.optimizers.SGD())
    with pytest.raises(rewriter.OptimizerError, match=r"a current optimizer of keras, got"):
        rewriter.keras3.Centered(tf_keras.optimizers.SGD())
    of_keras_3.fit(X, Y, verbose=0)
    paths = [tmp_path / f"{name}.keras" for name in ("three", "two")]
    for path, model in zip(paths, (of_keras_3, of_tf_keras), strict=True):
        model.save(path)
    with pytest.raises(
        rewriter.FileError, match=rf"saved by Keras {tf_keras.__version__}, which keras {keras.__version__}"
    ):
        rewriter.keras3.load_model(paths[1])
    assert type(rewriter.load_model(paths[1])).__module__.startswith("tf_keras.")
    code, out, err = run("verify", *paths)
    assert (code, out) == (2, "")
    assert f"saved by Keras {tf_keras.__version__}" in err


def test_a_saved_model_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(rewriter.FileError, match=r"rewriter\.standard_form\(model\): model\.export\(\.\.\.\)"):
        rewriter.export(rewriter.rewrite(network(), "keep"), tmp_path / "served")
    assert not list(tmp_path.iterdir())


def test_each_optimizer_keeps_its_own_statistics(tmp_path):
    """Compiled anew, a model is trained by another optimizer; its file has the state of that one, and is read whole."""
    model = rewriter.rewrite(network(layers.Dense(4)), rewriter.keras3.Centered(keras.optimizers.SGD(0.01)))
    optimizers = []  # as a user's notebook holds them
    for _ in range(3):
        model.fit(X, Y, verbose=0)
        optimizers.append(model.optimizer)
        model.compile(rewriter.keras3.Centered(keras.optimizers.Adam(0.01)), "mse")
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = rewriter.load_model(tmp_path / "model.keras")
    assert int(loaded.optimizer.iterations) == 1
    for each in (model, loaded):
        each.fit(X, Y, verbose=0)
    assert rewriter.verify(model, loaded).same
    del optimizers
    gc.collect()
    model.compile(rewriter.keras3.Centered(keras.optimizers.Adam(0.01)), "mse")
    model.fit(X, Y, verbose=0)
    assert len(model.trainable_variables) <= 2 * 3  # of each layer the kernel, and what two optimizers ask for at most


def test_the_standard_form_is_exported_to_be_served(tmp_path):
    """By Keras itself, with the optimizer's lists as TensorFlow wants to find them; training goes on."""
    model = network(layers.Dense(4))
    model.fit(X, Y, verbose=0)
    rewriter.rewrite(model, "centered")
    model.fit(X, Y, verbose=0)
    with rewriter.standard_form(model):
        model.export(tmp_path / "served", verbose=False)
        outputs = model.predict(X, verbose=0)
    served = keras.layers.TFSMLayer(tmp_path / "served", call_endpoint="serve")
    assert np.allclose(served(X), outputs, rtol=0, atol=1e-5)
    model.fit(X, Y, verbose=0)


def test_a_rule_of_ones_own_is_checked():
    """The same body as for tf-keras, and the same check of it."""

    @keras.saving.register_keras_serializable()
    class MeanDescent(rewriter.keras3.JointOptimizer):
        slots = {"means": "unit"}
        statistics = {"input_mean": 0.9}

        def update_layer(self, gradient, variable, layout):
            means = self.slot("means", variable)
            means.assign(keras.ops.mean(gradient, axis=layout.incoming_axis) + 0.9 * means)
            seen = keras.ops.sum(self.statistic("input_mean", variable))
            variable.assign_sub(0.01 * (gradient + means) / (1 + keras.ops.square(seen)))

    rewriter.keras3.testing.check_joint_optimizer(MeanDescent)


def test_the_state_of_another_form_is_not_taken_for_that_of_this_one(tmp_path):
    """Of two layers it has as many variables. The weights are loaded; by its own load_weights the state is too."""
    plain, model = (network(layers.Dense(5)) for _ in range(2))
    plain.fit(X, Y, verbose=0)
    plain.save_weights(tmp_path / "plain.weights.h5")
    model.fit(X, Y, verbose=0)
    rewriter.rewrite(model, "centered")
    with pytest.warns(UserWarning, match=r"is not loaded into this adam.*inside rewriter\.standard_form"):
        keras.Model.load_weights(model, tmp_path / "plain.weights.h5")  # past this library's own
    model.fit(X, Y, verbose=0)
    model.load_weights(tmp_path / "plain.weights.h5")
    with rewriter.standard_form(model):
        assert all(map(np.array_equal, model.get_weights(), plain.get_weights()))
    assert int(model.optimizer.iterations) == 1


def test_a_callback_of_the_other_keras_says_which_takes_the_model(tmp_path):
    model = network(layers.Dense(4))
    rewriter.rewrite(model)
    with pytest.raises(rewriter.ModelError, match=r"belongs to Keras 3: rewriter\.keras3 takes it"):
        model.fit(X, Y, verbose=0, callbacks=[rewriter.callbacks.JointMomentumMonitor(tmp_path)])
    model.fit(X, Y, verbose=0, callbacks=[rewriter.keras3.callbacks.JointMomentumMonitor(tmp_path)])


def test_a_legacy_file_of_the_plain_model_loads_into_the_rewritten_one(tmp_path):
    plain, model = (network(layers.Dense(5)) for _ in range(2))
    plain.save(tmp_path / "plain.h5")
    rewriter.rewrite(model, "centered")
    model.load_weights(tmp_path / "plain.h5")
    assert all(map(np.array_equal, rewriter.split(model).get_weights(), plain.get_weights()))


@pytest.mark.parametrize("layer", ["Dense", "Conv1D", "LSTM"])
def test_regularizers_of_kernel_and_bias_go_on_acting(layer):
    """Keras lists a loss for each variable, so there is one after the merge where there were two."""
    weights = []
    for is_rewritten in (False, True):
        keras.utils.set_random_seed(1)
        first = {"Dense": layers.Dense, "Conv1D": layers.Conv1D, "LSTM": layers.LSTM}[layer]
        given = (4, 2) if layer == "Conv1D" else (4,)
        both = {"kernel_regularizer": "l2", "bias_regularizer": keras.regularizers.L1(0.1)}
        before = [] if layer == "Dense" else [layers.Reshape((5, 1))]
        after = [layers.Flatten()] if layer == "Conv1D" else []
        model = network(*before, first(*given, **both), *after)
        if is_rewritten:
            rewriter.rewrite(model, "keep", layers="all")
        model.fit(X, Y, epochs=2, shuffle=False, verbose=0)
        weights.append((rewriter.split(model) if is_rewritten else model).get_weights())
    assert all(np.allclose(*pair, rtol=0, atol=1e-6) for pair in zip(*weights, strict=True))


def test_checkpoints_have_the_weights_of_now(tmp_path):
    """Those merged, or those split, and none of before; a checkpoint of the one form is not for the other."""
    model, plain, merged = (network(layers.Dense(5)) for _ in range(3))
    for each in (model, plain, merged):
        each.fit(X, Y, verbose=0)
    rewriter.rewrite(model, "keep")
    rewriter.rewrite(merged, "keep")
    model.fit(X, Y, verbose=0)
    of_merged = tf.train.Checkpoint(model=model).save(tmp_path / "merged")
    tf.train.Checkpoint(model=merged).restore(of_merged).assert_existing_objects_matched()
    assert all(map(np.array_equal, merged.get_weights(), model.get_weights()))
    with pytest.raises(ValueError, match="incompatible tensor with shape"):
        tf.train.Checkpoint(model=plain).restore(of_merged)
    of_plain = tf.train.Checkpoint(model=rewriter.split(model)).save(tmp_path / "plain")
    with pytest.raises(rewriter.ModelError, match="by itself, as the standard form has it"):
        tf.train.Checkpoint(model=merged).restore(of_plain)
    tf.train.Checkpoint(model=plain).restore(of_plain).assert_existing_objects_matched()
    assert all(map(np.array_equal, plain.get_weights(), model.get_weights()))


def test_models_over_the_same_layers_train_on():
    """Each with an optimizer and state of its own, when one of them is rewritten, and when it is split."""
    weights = []
    for is_rewritten in (False, True):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((5,))
        inner = layers.Dense(4)(inputs)
        models = keras.Model(inputs, layers.Dense(3)(inner)), keras.Model(inputs, inner)
        for model, y in zip(models, (Y, X[:, :4]), strict=True):
            model.compile(keras.optimizers.Adam(0.01), "mse")
            model.fit(X, y, epochs=2, shuffle=False, verbose=0)
        for change in (rewriter.rewrite, rewriter.split):
            if is_rewritten:
                change(models[0], **({"optimizer": "keep"} if change is rewriter.rewrite else {}))
            for model, y in zip(models, (Y, X[:, :4]), strict=True):
                model.fit(X, y, epochs=2, shuffle=False, verbose=0)
        weights.append(
            [np.asarray(each) for model in models for each in (*model.variables, *model.optimizer.variables)]
        )
    assert all(np.array_equal(*pair) for pair in zip(*weights, strict=True))


@pytest.mark.parametrize("rule", ["KFAC", "Centered"])
@pytest.mark.parametrize("eagerly", [False, True])
def test_a_rule_that_is_compiled_sees_the_first_batch(rule, eagerly, caplog):
    """As one that is given to rewrite does, where layers compute alike: as those of Keras do."""
    weights = []
    for is_compiled in (False, True):
        keras.utils.set_random_seed(1)
        model = network(layers.Dense(5))
        made = rewriter.keras3.KFAC(0.01) if rule == "KFAC" else rewriter.keras3.Centered(keras.optimizers.SGD(0.01))
        if is_compiled:
            rewriter.rewrite(model, "keep")
            model.compile(made, "mse", run_eagerly=eagerly)
        else:
            rewriter.rewrite(model, made, exact=True)
            model.compile(model.optimizer, "mse", run_eagerly=eagerly)
        model.fit(X, Y, epochs=2, batch_size=4, shuffle=False, verbose=0)
        weights.append(rewriter.split(model).get_weights())
    assert all(map(np.array_equal, *weights))
    assert "has seen no call in training" not in caplog.text


class Own(keras.optimizers.Adam):
    """A user's, whose state cannot follow the weights by itself."""


def over_one_trunk(make):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((5,))
    trunk = layers.Dense(4)(inputs)
    models = [keras.Model(inputs, layers.Dense(3)(trunk), name=name) for name in ("actor", "critic")]
    for model in models:
        model.compile(make(0.01), "mse")
        model.fit(X, Y, verbose=0)
    return models


def test_an_optimizer_of_replaced_weights_refuses_in_every_way():
    """As fit of each backend calls it, and a loop of one's own on JAX."""
    actor, critic = over_one_trunk(Own)
    rewriter.rewrite(actor, actor.optimizer)
    variables = critic.trainable_variables
    gradients = [keras.ops.zeros_like(each) for each in variables]
    stale = critic.optimizer
    for act in (
        lambda: stale.apply(gradients, variables),
        lambda: stale.apply_gradients(zip(gradients, variables, strict=True)),
        lambda: stale.stateless_apply(stale.variables, gradients, variables),
        lambda: critic.fit(X, Y, verbose=0),
    ):
        with pytest.raises(rewriter.OptimizerError, match="built for weights that rewriter has replaced since"):
            act()


def test_a_model_over_layers_that_are_centered_for_another_is_told_of(caplog):
    """Its plain optimizer does not know what they keep; a new one does."""
    actor, critic = over_one_trunk(keras.optimizers.Adam)
    rewriter.rewrite(critic, "keep")
    assert "keep in variables what they see" not in caplog.text
    rewriter.rewrite(actor, "centered")
    assert "critic shares layers with actor, and these keep in variables what they see" in caplog.text
    critic.compile(keras.optimizers.Adam(0.01), "mse")
    for model in (critic, actor):
        model.fit(X, Y, verbose=0)
