"""The base for a rule of one's own: what it is told, what it may keep, and what it gets from the base."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from arrays import bits
from models import MODELS, batch, fit
from processes import run_script
from rules import Rule, rewritten, weights


def test_a_rule_gets_each_layer_whole():
    """One call for each merged layer, with the gradient of kernel and bias stacked, and one for each other variable."""
    seen = {"layer": [], "other": []}

    class Watching(rewriter.JointOptimizer):
        def update_layer(self, gradient, variable, layout):
            seen["layer"].append((gradient.numpy(), variable, layout))

        def update_other(self, gradient, variable):
            seen["other"].append((gradient.numpy(), variable))

    model = rewritten(optimizer=Watching(), run_eagerly=True)
    x, y = batch(4)
    with rewriter.standard_form(model), tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        kernel, bias, gamma, beta, *last = tape.gradient(loss, model.trainable_variables)
    model.fit(x, y, verbose=0)
    merged = [layer.augmented_kernel for layer in model.layers[::2]]
    assert all(variable is kernel for (_, variable, _), kernel in zip(seen["layer"], merged, strict=True))
    assert [layout.incoming_axis for *_, layout in seen["layer"]] == [0, 0]
    assert [(layout.units, layout.kernel_rows, layout.bias_rows) for *_, layout in seen["layer"]] == [
        (7, slice(0, 5), slice(5, 6)),
        (3, slice(0, 7), slice(7, 8)),
    ]
    expected = [np.vstack([kernel, bias]), np.vstack(last)]
    for (gradient, *_), stacked in zip(seen["layer"], expected, strict=True):
        np.testing.assert_allclose(gradient, stacked, rtol=1e-5, atol=1e-7)
    for (gradient, _), single in zip(seen["other"], (gamma, beta), strict=True):
        np.testing.assert_allclose(gradient, single, rtol=1e-5, atol=1e-7)


def test_slots_have_the_extent_that_is_asked_for():
    """A number a unit, a row, a layer or a weight, in the dtype of the variable, zero at first."""
    optimizer = Rule()
    with tf.init_scope():
        model = tf_keras.Sequential([layers.Dense(4, input_shape=(6,), dtype="float64"), layers.BatchNormalization()])
    model.compile("sgd", "mse")
    rewriter.rewrite(model, optimizer=optimizer)
    optimizer.build(model.trainable_variables)
    kernel, gamma, _ = model.trainable_variables
    shapes = {name: (optimizer.slot(name, kernel).shape, optimizer.slot(name, gamma).shape) for name in Rule.slots}
    assert shapes == {"of_unit": ((4,), (4,)), "of_row": ((7,), (4,)), "of_layer": ((), ()), "of_each": ((7, 4), (4,))}
    assert {optimizer.slot(name, kernel).dtype for name in Rule.slots} == {tf.float64}
    assert not any(np.any(slot.numpy()) for slot in optimizer.variables[1:-1])


def test_a_rule_is_checked():
    """An extent that there is not, a name that the optimizer has for something else, no rule at all: refused."""

    class Unknown(Rule):
        slots = {"mine": "column"}

    class Taken(Rule):
        slots = {"beta": "unit"}

    class Empty(rewriter.JointOptimizer):
        pass

    variable = rewritten().layers[0].augmented_kernel
    with pytest.raises(NotImplementedError, match=r"Empty must implement update_layer\(self, gradient"):
        Empty()
    with pytest.raises(ValueError, match="slot 'mine' of Unknown must be one of 'unit', 'incoming', 'layer', 'full'"):
        Unknown()
    with pytest.raises(ValueError, match="Taken has an attribute beta, so the slot needs another name"):
        Taken().build([variable])


def test_other_variables_get_gradient_descent():
    """Unless the rule says otherwise; the gradient of an embedding moves the rows it names, and no others."""

    class Still(rewriter.JointOptimizer):
        def update_layer(self, gradient, variable, layout):
            pass

    model = tf_keras.Sequential([layers.Embedding(9, 4, input_length=3), layers.Flatten(), layers.Dense(2)])
    model.compile("sgd", "mse")
    twin = tf_keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    twin.layers[-1].trainable = False
    twin.compile(optimizers.SGD(0.5), "mse")
    rewriter.rewrite(model, optimizer=Still(0.5))
    for each in (model, twin):
        each.fit(np.array([[1, 2, 2], [3, 1, 0]]), np.ones((2, 2)), verbose=0)
    np.testing.assert_allclose(model.get_weights()[0], twin.get_weights()[0], rtol=1e-6)
    with rewriter.standard_form(model):
        assert weights(model)[1:] == weights(twin)[1:]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".keras", ".h5", ""])
def test_training_under_a_rule_of_ones_own_goes_on_in_a_new_process(tmp_path, suffix):
    """Interrupted and saved in any format, loaded where the rule is imported: bit-equal to going on here."""
    model = rewritten(optimizer=Rule(use_ema=True, weight_decay=0.25))
    fit(model)
    rewriter.save_model(model, tmp_path / f"m{suffix}")
    state = run_script("train_on", tmp_path / f"m{suffix}")
    fit(model)
    arrays = [*model.get_weights(), *(variable.numpy() for variable in model.optimizer.variables)]
    assert [array.tobytes().hex() for array in arrays] == state


def test_standard_form_and_export_give_a_plain_optimizer(caplog, tmp_path):
    """SGD of the same learning rate and clipping, said in a line; back in the rewritten form the rule has its slots."""
    caplog.set_level("INFO", "rewriter")
    model = rewritten(optimizer=Rule(0.25, clipnorm=2.0))
    fit(model)
    slots = [bits(variable.numpy()) for variable in model.optimizer.variables]
    rewriter.export(model, tmp_path / "m.keras")
    assert "optimizer: Rule replaced by SGD of the same learning rate" in caplog.messages
    left = "slots: of_unit, of_row, of_layer, of_each left behind; Rule.standard_optimizer says which optimizer goes on"
    assert f"{left}, and how" in caplog.messages
    assert [bits(variable.numpy()) for variable in model.optimizer.variables] == slots
    exported = tf_keras.models.load_model(tmp_path / "m.keras").optimizer
    assert type(exported) is optimizers.SGD
    assert (float(exported.learning_rate), exported.clipnorm, exported.momentum) == (0.25, 2.0, 0.0)
    rewriter.split(model)
    assert type(model.optimizer) is optimizers.SGD
    fit(model)


def test_a_rule_that_a_model_is_compiled_with_is_kept():
    """optimizer=None does not put joint momentum in the place of a joint optimizer that the user chose."""
    model = MODELS["sequential"]()
    rule = Rule()
    model.compile(rule, "mse")
    rewriter.rewrite(model)
    assert model.optimizer is rule
    fit(model)


def test_slots_of_layers_merged_in_training_are_condensed():
    """Rewritten in part, trained, completed: full-size slots are stacked, the others are means."""
    rule = Rule()
    model = MODELS["whole_vectors"]()
    model.compile("sgd", "mse")
    second = model.layers[1]
    rewriter.rewrite(model, optimizer=rule, exclude=lambda layer: layer is second)
    fit(model)
    for variable in (second.kernel, second.bias):  # gradient descent has left the slots of others at zero
        for name in Rule.slots:
            slot = rule.slot(name, variable)
            slot.assign(tf.random.normal(slot.shape))
    before = {name: [rule.slot(name, v).numpy() for v in (second.kernel, second.bias)] for name in Rule.slots}
    rewriter.rewrite(model)
    assert model.optimizer is rule
    slots = {name: rule.slot(name, second.augmented_kernel).numpy() for name in Rule.slots}
    assert bits(slots["of_each"]) == bits(np.vstack(before["of_each"]))
    np.testing.assert_allclose(slots["of_unit"], np.vstack(before["of_unit"]).mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slots["of_row"], np.vstack(before["of_row"]).mean(axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slots["of_layer"], np.mean(before["of_layer"]), rtol=1e-5)
    fit(model)


def test_under_mixed_precision_a_rule_computes_in_the_stored_dtype():
    """Wrapped in a loss scale by Keras, a rule gets float32 gradients and variables of a float16 layer."""
    dtypes = []

    class Watching(Rule):
        def update_layer(self, gradient, variable, layout):
            dtypes.append((gradient.dtype, variable.dtype, self.slot("of_unit", variable).dtype))
            super().update_layer(gradient, variable, layout)

    policy = tf_keras.mixed_precision.Policy("mixed_float16")
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(5,), dtype=policy), layers.Dense(3, dtype="float32")])
    model.compile("sgd", "mse")
    rewriter.rewrite(model, optimizer=tf_keras.mixed_precision.LossScaleOptimizer(Watching()))
    before = model.layers[0].get_weights()[0]
    fit(model)
    assert set(dtypes) == {(tf.float32, tf.float32, tf.float32)}
    assert np.any(model.layers[0].get_weights()[0] != before)


def test_layout_of_answers_wherever_an_optimizer_meets_the_variable(tmp_path):
    """Plain, autocast, inside a tf.function, in the lists of a model, after loading; None for any other variable."""
    policy = tf_keras.mixed_precision.Policy("mixed_float16")
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(5,), dtype=policy), layers.BatchNormalization()])
    rewriter.rewrite(model)
    inside = []

    @tf.function
    def traced():
        inside.extend(map(rewriter.layout_of, model.trainable_variables))

    traced()
    kernel = model.layers[0].augmented_kernel
    layout = rewriter.layout_of(kernel)
    assert hasattr(kernel, "true_dtype"), "mixed precision reads it in another dtype"
    assert layout.shape == (6, 4)
    assert inside == [layout, None, None]
    with tf.GradientTape() as tape:
        model(tf.zeros((1, 5)))
    assert layout in map(rewriter.layout_of, tape.watched_variables())
    for suffix in (".keras", ".h5", ""):
        rewriter.save_model(model, tmp_path / f"m{suffix}")
        loaded = rewriter.load_model(tmp_path / f"m{suffix}")
        assert rewriter.layout_of(loaded.trainable_variables[0]).shape == (6, 4)


def test_what_a_rule_may_not_do_is_said_at_once(tmp_path):
    """Another build, a misspelled slot, a setting that no file holds, a constructor that cannot be called again."""
    with pytest.raises(TypeError, match="Built must not override build, which makes the slots: name them in slots"):

        class Built(Rule):
            def build(self, var_list):
                super().build(var_list)

    class Calling(Rule):
        def __init__(self, norm=tf.norm, **kwargs):
            super().__init__(**kwargs)
            self.norm = norm

    class Fixed(rewriter.JointMomentum):
        def __init__(self, learning_rate=0.5, **kwargs):
            super().__init__(learning_rate, momentum=0.5, **kwargs)

    class Sealed(Rule):
        def __init__(self, learning_rate=0.5):
            super().__init__(learning_rate, clipnorm=2.0)

    model = rewritten()
    with pytest.raises(
        ValueError, match="Rule has no slot 'of_units'; its slots are of_unit, of_row, of_layer, of_each"
    ):
        model.optimizer.slot("of_units", model.layers[0].augmented_kernel)
    for wrong, message in (
        (Calling(), "keeps a function as norm"),
        (Fixed(), r"Fixed cannot be made again .*\*\*kwargs"),
    ):
        rewriter.rewrite(model, optimizer=wrong)
        with pytest.raises(rewriter.FileError, match=message):
            rewriter.save_model(model, tmp_path / "m.keras")
    assert list(tmp_path.iterdir()) == []
    assert Sealed.from_config(Sealed(0.25).get_config()).clipnorm == 2.0


def test_slots_start_where_the_rule_says():
    """initial_slot is asked once for each slot, and a state of the whole optimizer is the constructor's to make."""

    class Slow(rewriter.JointOptimizer):
        slots = {"slow": "full"}

        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.count = self.add_variable((), name="count")

        def initial_slot(self, name, variable, shape):
            assert (name, tuple(variable.shape)) == ("slow", shape)
            return tf.convert_to_tensor(variable)

        def update_layer(self, gradient, variable, layout):  # noqa: ARG002
            self.count.assign_add(1)
            slow = self.slot("slow", variable)
            slow.assign(0.5 * slow + 0.5 * variable)
            variable.assign_sub(0.5 * gradient)

    model = MODELS["whole_vectors"]()
    model.compile("sgd", "mse", run_eagerly=True)
    second = model.layers[1]
    rewriter.rewrite(model, optimizer=Slow(), exclude=lambda layer: layer is second)
    before = model.layers[0].augmented_kernel.numpy()
    fit(model)
    assert model.optimizer.slot("slow", model.layers[0].augmented_kernel).numpy().shape == before.shape
    assert float(model.optimizer.count) == 3
    rewriter.rewrite(model)
    assert [variable.name.split(":")[0] for variable in model.optimizer.variables].count("count") == 1
    assert float(model.optimizer.count) == 3
    fit(model)
    assert float(model.optimizer.count) == 3 + 3 * 2


def test_another_optimizer_for_a_rewritten_model_trains_it():
    """What fit has traced holds the optimizer of before, which would go on training in silence."""
    model = rewritten()
    fit(model)
    still = optimizers.SGD(0.0)
    rewriter.rewrite(model, optimizer=still)
    before = weights(model)[0]
    fit(model)
    assert weights(model)[0] == before
    assert int(still.iterations) == 3


def test_a_given_rule_is_scaled_as_compile_would(caplog, tmp_path):
    """Under mixed_float16 it goes into a LossScaleOptimizer, the line says so, and .h5 holds it too."""
    caplog.set_level("INFO", "rewriter")
    policy = tf_keras.mixed_precision.Policy("mixed_float16")
    for rule in (Rule(0.25), rewriter.JointMomentum(0.25)):
        model = tf_keras.Sequential([layers.Dense(4, input_shape=(5,), dtype=policy), layers.Dense(3, dtype="float32")])
        model.compile(tf_keras.mixed_precision.LossScaleOptimizer(optimizers.SGD()), "mse", run_eagerly=True)
        rewriter.rewrite(model, optimizer=rule)
        assert model.optimizer.inner_optimizer is rule
        assert f"optimizer: {type(rule).__name__}, as given, in a LossScaleOptimizer" in caplog.messages
        fit(model)
        rewriter.save_model(model, tmp_path / "m.h5", overwrite=True)
        loaded = rewriter.load_model(tmp_path / "m.h5")
        state = [[bits(variable.numpy()) for variable in each.optimizer.variables] for each in (loaded, model)]
        assert state[0] == state[1]


def test_a_rule_shared_with_another_model_is_refused():
    """Its slots for the other model would be lost."""
    rule = Rule()
    models = [MODELS["whole_vectors"]() for _ in range(2)]
    for model in models:
        rewriter.rewrite(model, optimizer=Rule(), include=lambda layer, first=model.layers[0]: layer is first)
        model.compile(rule, "mse")
    rule.build(models[0].trainable_variables + models[1].trainable_variables)
    with pytest.raises(rewriter.OptimizerError, match="also trains 4 variables that are not in this model"):
        rewriter.rewrite(models[0])


def test_an_optimizer_for_the_standard_form_is_one():
    """A standard_optimizer that returns nothing is named."""

    class Nothing(Rule):
        def standard_optimizer(self):
            pass

    model = rewritten(optimizer=Nothing())
    with pytest.raises(rewriter.OptimizerError, match=r"Nothing\.standard_optimizer must return an optimizer"):
        rewriter.split(model)


def test_a_variable_that_is_thawed_is_unknown_to_the_optimizer():
    """Keras would name an optimizer that does not exist; a new one trains it."""
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(3,), name="body"), layers.Dense(2, name="head")])
    model.get_layer("body").trainable = False
    rewriter.rewrite(model)
    x, y = np.ones((8, 3)), np.ones((8, 2))
    model.compile(model.optimizer, "mse")
    model.fit(x, y, verbose=0)
    model.get_layer("body").trainable = True
    model.compile(model.optimizer, "mse")
    with pytest.raises(rewriter.OptimizerError, match="does not know body/augmented_kernel:0, which was not trained"):
        model.fit(x, y, verbose=0)
    model.compile(rewriter.JointMomentum(), "mse")
    model.fit(x, y, verbose=0)
