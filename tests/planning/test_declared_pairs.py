"""Pairs that the user tells: treated like any other, and what is wrong with them is said when it is told."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from arrays import bits
from hand_made_models import Gate, Mixing, hand_made, register
from models import batch, fit, trained_pair
from rewriter.optimizers.state.state_size import state_sizes
from rewriter.planning import declared_pairs


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    """What one test tells of a class is not for the next."""
    monkeypatch.setattr(declared_pairs, "_DECLARATIONS", weakref.WeakKeyDictionary())


def tell():
    rewriter.pair(Gate, kernel=("from_input", "from_state"), bias="b")
    rewriter.pair(Mixing, kernel="w", bias="b")
    rewriter.pair(Mixing, kernel="v", bias="c", units=-2)


def test_told_pairs_are_merged_like_any_other():
    """By default, without being asked for; Adam goes on bit for bit, and all comes back."""
    tell()
    original, model = trained_pair(hand_made)
    names = [weight.name for weight in model.weights]
    rewriter.rewrite(model, "keep", strict=True)
    assert [each.weights for each in rewriter.plan(model).merged if each.layer == "Mixing"] == [("w", "b"), ("v", "c")]
    mixing = model.get_layer("mixing")
    assert [weight.name for weight in mixing.weights] == [
        "mixing/augmented_kernel:0",
        "mixing/gain:0",
        "mixing/augmented_kernel_1:0",
    ]
    assert bits(mixing.augmented_kernel_1[:4]) == bits(tf.transpose(mixing.v))
    assert fit(model, 3).history == fit(original, 3).history
    rewriter.split(model)
    assert [weight.name for weight in model.weights] == names
    assert [bits(each.numpy()) for each in model.weights] == [bits(each.numpy()) for each in original.weights]


def test_weights_of_the_original_load_into_several_augmented_kernels(tmp_path):
    """Weight files of either form load into the other, in every place of a layer with two W* and a weight between."""
    tell()
    model, other = hand_made(), hand_made()
    model.save_weights(tmp_path / "plain.weights.h5")
    rewriter.rewrite(other)
    other.load_weights(tmp_path / "plain.weights.h5")
    assert rewriter.verify(model, other).same


def test_an_instance_alone():
    """What is told of one layer is not told of another of its class, and is forgotten with the layer."""
    hand_made()  # under Python 3.13 autograph holds on to the frames of what it traces first
    model = hand_made()
    rewriter.pair(model.get_layer("mixing"), "w", "b")
    assert {each.path for each in rewriter.plan(model).merges if each.layer == "Mixing"} == {"mixing"}
    assert all(each.layer != "Mixing" for each in rewriter.plan(hand_made()).merges)
    del model
    tf_keras.backend.clear_session()
    gc.collect()
    assert not declared_pairs._DECLARATIONS


def test_subclasses_and_layers_without_bias():
    """A class speaks for its subclasses; a layer of it whose bias is None is skipped like any other without."""

    class Sub(Mixing):
        pass

    class Bare(Mixing):
        def build(self, input_shape):
            super().build(input_shape)
            self.c = None

        def call(self, inputs):
            return inputs @ self.w + self.b

    rewriter.pair(Mixing, "v", "c", units=-2)
    model = tf_keras.Sequential([layers.InputLayer((4,)), Sub(name="sub"), Bare(name="bare"), Sub(name="again")])
    decisions = {each.path: each for each in rewriter.plan(model).decisions}
    assert decisions["sub"].reason == "declared: v and c"
    assert decisions["bare"].reason == "no bias (use_bias=False)"


def test_told_twice_is_told_once():
    """A module that is imported again says the same again."""
    rewriter.pair(Mixing, "w", "b")
    rewriter.pair(Mixing, "w", "b")
    assert len(rewriter.plan(hand_made()).merges) == 3


def test_told_again_of_the_same():
    """What was told of a weight before is forgotten, as one who misspelt it would want; the layer has two pairs."""
    rewriter.pair(Mixing, "ww", "b")
    rewriter.pair(Mixing, "v", "c", units=-2)
    rewriter.pair(Mixing, "w", "b")
    merges = [each.weights for each in rewriter.plan(hand_made()).merges if each.path == "mixing"]
    assert merges == [("v", "c"), ("w", "b")]


def test_told_and_taken_back():
    """All that was told of a class or layer, and of no other; rewritten layers stay so."""
    model = hand_made()
    with pytest.raises(rewriter.PairError, match=r"no pair is declared for Mixing; pairs are declared for nothing\."):
        rewriter.unpair(Mixing)
    rewriter.pair(Mixing, "ww", "bb")
    rewriter.pair(model.get_layer("gate"), "from_state", "b")
    with pytest.raises(rewriter.PairError, match="is declared for Gate; pairs are declared for Mixing, layer 'gate'"):
        rewriter.unpair(Gate)
    rewriter.unpair(Mixing)
    rewriter.rewrite(model)
    merged = [each.path for each in rewriter.plan(model).merged]
    assert ("gate" in merged, "mixing" in merged) == (True, False)
    rewriter.unpair(model.get_layer("gate"))
    assert [each.path for each in rewriter.plan(model).merged] == merged
    for nothing in (3, None, [Mixing]):
        with pytest.raises(rewriter.PairError, match="no pair is declared for"):
            rewriter.unpair(nothing)


def test_told_of_a_layer_and_of_its_class():
    """The same is told once, by whichever way and in whichever order; what overlaps is an error of the plan."""
    model = hand_made()
    rewriter.pair(model.get_layer("mixing"), "w", "b")
    rewriter.pair(Mixing, "w", "b")
    assert [each.weights for each in rewriter.plan(model).merges if each.path == "mixing"] == [("w", "b")]
    rewriter.pair(model.get_layer("gate"), "from_state", "b")
    rewriter.pair(Gate, "from_input", "b")
    with pytest.raises(rewriter.PairError, match="gate: Gate 'gate': b is in two pairs"):
        rewriter.rewrite(model)


def test_the_first_of_two_pairs_stays():
    """Where the first cannot be merged, or costs too much, the second is the layer's only W*, under the usual name."""

    class Late(Mixing):
        def build(self, input_shape):
            super().build(input_shape)
            self.v_of_late = self.w

    model = tf_keras.Sequential([layers.InputLayer((4,)), Late(name="late"), layers.Dense(2)])
    rewriter.pair(Late, "w", "b")
    rewriter.pair(Late, "v", "c", units=-2)
    names = [weight.name for weight in model.weights]
    rewriter.rewrite(model)
    assert [weight.name for weight in model.get_layer("late").weights] == [
        "late/w:0",
        "late/b:0",
        "late/gain:0",
        "late/augmented_kernel:0",
    ]
    rewriter.split(model)
    assert [weight.name for weight in model.weights] == names


@tf_keras.saving.register_keras_serializable("test_told")
class Apart(layers.Layer):
    """Two pairs whose weights are not neighbours, and a weight between."""

    def build(self, input_shape):
        self.w = self.add_weight("w", (input_shape[-1], 4))
        self.v = self.add_weight("v", (4, 3))
        self.scale = self.add_weight("scale", (4,), initializer="ones")
        self.b = self.add_weight("b", (4,))
        self.c = self.add_weight("c", (3,))
        super().build(input_shape)

    def call(self, inputs):
        return ((inputs @ self.w + self.b) * self.scale) @ self.v + self.c


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_slots_come_back_in_their_order(ending, tmp_path):
    """Files restore slots by position: after a split they are where they were, also of weights that lie apart."""
    (model,) = trained_pair(lambda: tf_keras.Sequential([layers.InputLayer((5,)), Apart()]))[:1]
    slots = [bits(each.numpy()) for each in model.optimizer.variables]
    rewriter.rewrite(model, "keep", discover=True)
    rewriter.export(model, tmp_path / f"plain{ending}")
    back = tf_keras.models.load_model(tmp_path / f"plain{ending}")
    assert [bits(each.numpy()) for each in back.optimizer.variables] == slots
    rewriter.split(model)
    assert [bits(each.numpy()) for each in model.optimizer.variables] == slots


def test_weights_without_a_scope_are_named_by_their_layer(tmp_path):
    """Variables that no layer named give augmented kernels of different names, as .h5 needs them."""

    class Bare(layers.Layer):
        def __init__(self, name):
            super().__init__(name=name)
            self.w, self.b = tf.Variable(tf.ones((4, 4)), name=f"{name}_w"), tf.Variable(tf.ones(4), name=f"{name}_b")

        def call(self, inputs):
            return inputs @ self.w + self.b

    model = tf_keras.Sequential([layers.InputLayer((4,)), Bare("p"), Bare("q")])
    names = [weight.name for weight in model.weights]
    rewriter.rewrite(model, discover=True)
    assert [weight.name for weight in model.weights] == ["p/augmented_kernel:0", "q/augmented_kernel:0"]
    model.save_weights(tmp_path / "joint.h5")
    rewriter.split(model)
    assert [weight.name for weight in model.weights] == names


class Holder:
    """An object of a user's own."""

    def __init__(self, weight):
        self.weight = weight


def in_module(layer, kernel, _):
    layer.module = tf.Module()
    layer.module.w = kernel


HELD_ELSEWHERE = {
    "closure": lambda layer, w, b: setattr(layer, "function", lambda x: x @ w + b),
    "tuple in a list": lambda layer, w, b: setattr(layer, "both", [(w, b)]),
    "module": in_module,
    "object": lambda layer, w, _: setattr(layer, "helper", Holder(w)),
    "loss": lambda layer, w, _: layer.add_loss(lambda: tf.reduce_sum(w)),
}


@pytest.mark.parametrize("hold", HELD_ELSEWHERE.values(), ids=HELD_ELSEWHERE)
def test_a_weight_that_is_held_by_another_way_is_left_alone(hold):
    """What reaches the variable past the attribute would go on with a dead one; the reason says that it is so."""

    class Held(layers.Dense):
        def build(self, input_shape):
            super().build(input_shape)
            hold(self, self.kernel, self.bias)

    model = tf_keras.Sequential([layers.InputLayer((4,)), Held(4, name="held")])
    decision = rewriter.plan(model).decisions[0]
    assert decision.action == "skip"
    assert "are one variable: merging would untie them" in decision.reason


WRONG = {
    "no layer": (lambda _: rewriter.pair(3, "w", "b"), "takes a layer or a class of layers, got 3"),
    "a class of something": (lambda _: rewriter.pair(dict, "w", "b"), "takes a layer or a class of layers"),
    "known": (lambda _: rewriter.pair(layers.Conv2D), "Conv2D is a layer of a known family.*layers='conv'"),
    "no bias": (lambda _: rewriter.pair(Mixing, "w", ()), "has a kernel and a bias at least"),
    "in two pairs": (
        lambda model: (rewriter.pair(Mixing, "w", "b"), rewriter.pair(model.get_layer("mixing"), "v", "b")),
        r"Mixing: b is in a pair that is declared for Mixing, and can be merged once. rewriter.unpair\(Mixing\) takes",
    ),
    "twice in one": (lambda _: rewriter.pair(Mixing, ("w", "w"), "b"), "Mixing: w is named twice in one pair"),
    "units from the front": (lambda _: rewriter.pair(Mixing, "w", "b", units=1), "counted from the end"),
    "variables": (
        lambda model: rewriter.pair(Mixing, tf.Variable(1.0), "b"),
        "kernel= takes the name of the attribute",
    ),
    "none": (lambda _: rewriter.pair(Mixing, "w", None), "bias= takes the name of the attribute"),
    "units of text": (lambda _: rewriter.pair(Mixing, "w", "b", units="-1"), "units='-1'"),
    "units twice": (lambda _: rewriter.pair(Mixing, "w", "b", units=(-1, -1)), "an axis is given twice"),
    "misspelt": (lambda model: rewriter.pair(model.get_layer("gate"), "from_inputs", "b"), "Did you mean 'from_input'"),
    "no such": (lambda model: rewriter.pair(model.get_layer("gate"), "zzz", "b"), "It has from_input, from_state, b"),
    "other units": (
        lambda model: rewriter.pair(model.get_layer("mixing"), "w", "c"),
        "w 4x4 and c 5 cannot be stacked by the last axes",
    ),
    "no such axis": (
        lambda model: rewriter.pair(model.get_layer("mixing"), "w", "b", units=-3),
        r"cannot be stacked by units=\(-3,\)",
    ),
    "rewritten": (
        lambda model: rewriter.pair(rewriter.rewrite(model, discover=True).get_layer("gate"), "from_input", "b"),
        "is rewritten already; rewriter.split",
    ),
}


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_when_it_is_told(call, message):
    """One error, with what there is and what would do."""
    with pytest.raises(rewriter.PairError, match=message):
        call(hand_made())


@pytest.mark.parametrize(
    ("kernel", "bias", "message"), [("x", "b", "has no weight 'x'"), ("w", "c", "cannot be stacked")]
)
def test_of_a_class_it_is_said_by_the_plan(kernel, bias, message):
    """With the path of the first layer it does not fit."""
    rewriter.pair(Mixing, kernel, bias)
    model = hand_made()
    with pytest.raises(rewriter.PairError, match=f"mixing: Mixing 'mixing'.*{message}"):
        rewriter.plan(model)
    with pytest.raises(rewriter.PairError, match="mixing: "):
        rewriter.rewrite(model)


def test_a_layer_that_is_not_built_yet():
    """It is merged when it is built, once it was told; the plan says that it is not built."""
    tell()

    class Lazy(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.mixing = layers.Dense(4), Mixing()
            self.first.build((None, 5))

        def call(self, inputs):
            return self.mixing(self.first(inputs))

    reasons = {each.path: each.reason for each in rewriter.plan(Lazy()).decisions}
    assert "not built" in reasons["mixing"]
    model = Lazy()
    model(batch()[0])
    assert len(rewriter.plan(model).merges) == 3


def test_the_state_of_several_augmented_kernels_is_counted():
    """Of each W* of a layer: a number a unit, beside what the gain keeps."""
    tell()
    model = hand_made()
    model.compile(tf_keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    before, after = state_sizes(rewriter.plan(model), model)
    weights = sum(weight.shape.num_elements() for weight in model.get_layer("mixing").weights)
    assert before.layers["mixing"] == 4 * weights
    assert after.layers["mixing"] == 4 * (4 + 5 + 5)


def test_weights_of_the_model_itself_cannot_be_told():
    """Only layers in it are merged; the plan says so instead of passing over them."""

    class Own(tf_keras.Model):
        def build(self, input_shape):
            self.w, self.b = self.add_weight("w", (input_shape[-1], 3)), self.add_weight("b", (3,))

        def call(self, inputs):
            return inputs @ self.w + self.b

    model = Own()
    model(tf.ones((2, 4)))
    rewriter.pair(model, kernel="w", bias="b")
    with pytest.raises(rewriter.PairError, match="declared for the model itself"):
        rewriter.plan(model)


@register
class Unsaid(layers.Layer):
    """Its build does not say that the layer is built, as many do not; Keras says it after the first call."""

    def build(self, input_shape):
        self.w = self.add_weight("w", (input_shape[-1], 4), regularizer="l2")
        self.b = self.add_weight("b", (4,))

    def call(self, inputs):
        return inputs @ self.w + self.b


@pytest.mark.parametrize("file", ["model.keras", "model.h5", "model"])
def test_a_layer_whose_build_does_not_say_so_is_read(tmp_path, file):
    """It is built when it is loaded, and not again in its first call; if it is, it has one augmented kernel still."""
    rewriter.pair(Unsaid, kernel="w", bias="b")
    model = tf_keras.Sequential([layers.Dense(3, input_shape=(5,)), Unsaid(name="unsaid")])
    model.compile("sgd", "mse")
    rewriter.rewrite(model)
    x, y = np.ones((8, 5)), np.ones((8, 4))
    model.fit(x, y, verbose=0)
    rewriter.save_model(model, tmp_path / file)
    loaded = rewriter.load_model(tmp_path / file)
    assert bits(loaded.predict(x, verbose=0)) == bits(model.predict(x, verbose=0))
    assert [each.name for each in loaded.get_layer("unsaid").weights] == ["unsaid/augmented_kernel:0"]
    assert loaded.fit(x, y, verbose=0).history == model.fit(x, y, verbose=0).history


def test_a_layer_that_is_built_again_has_new_weights():
    """In the place of the old ones, as in Keras."""
    rewriter.pair(Unsaid, kernel="w", bias="b")
    model = rewriter.rewrite(tf_keras.Sequential([layers.Dense(3, input_shape=(5,)), Unsaid(name="unsaid")]))
    unsaid = model.get_layer("unsaid")
    unsaid.build((None, 7))
    assert [tuple(each.shape) for each in unsaid.weights] == [(8, 4)]
