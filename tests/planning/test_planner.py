"""The plan names every layer that owns a kernel, says what happens to it and why, and touches nothing."""

import json

import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from arrays import bits
from models import MODELS
from rewriter.model.walk import locate_layers
from zoo import ZOO


def decision(plan, path):
    (found,) = [decision for decision in plan.decisions if decision.path == path]
    return found


def test_plan_touches_nothing():
    """Planning leaves variables, classes and names as they are."""
    model = MODELS["nested"]()
    before = [(id(weight), weight.name, bits(weight.numpy())) for weight in model.weights]
    rewriter.plan(model)
    assert [(id(weight), weight.name, bits(weight.numpy())) for weight in model.weights] == before


def test_paths_are_layer_names_and_attributes():
    """Layer names inside Sequential and Functional models, the attribute inside a wrapper."""
    assert [each.path for each in rewriter.plan(MODELS["nested"]()).decisions] == [
        "inner/first",
        "inner/innermost/deep",
        "last",
    ]
    assert rewriter.plan(MODELS["time_distributed"]()).decisions[0].path == "time_distributed/layer"


def test_a_decision_says_all_that_the_design_promises():
    """Shapes, dtype, trainability, action and reason of a merged and of a skipped layer."""
    model = MODELS["functional"]()
    model.get_layer("left").trainable = False
    plan = rewriter.plan(model)
    assert decision(plan, "left").to_dict() == {
        "path": "left",
        "layer": "Dense",
        "action": "merge",
        "reason": "kernel and bias",
        "weights": ["kernel", "bias"],
        "kernel_shape": [5, 4],
        "bias_shape": [4],
        "augmented_shape": [6, 4],
        "dtype": "float32",
        "trainable": False,
        "centering": "centered",
    }
    skipped = decision(plan, "right")
    assert (skipped.action, skipped.reason) == ("skip", "no bias (use_bias=False)")
    assert (skipped.kernel_shape, skipped.bias_shape, skipped.augmented_shape) == ((5, 4), None, None)


def test_to_dict_is_json():
    """The plan as data goes through JSON unchanged."""
    data = rewriter.plan(MODELS["functional"]()).to_dict()
    assert json.loads(json.dumps(data)) == data
    assert {name: data[name] for name in ("merge", "skip", "already_merged")} == {
        "merge": 2,
        "skip": 1,
        "already_merged": 0,
    }


def test_every_layer_is_listed():
    """The model first, then each layer once, with the numbers of its own; what they add up to is the model's."""
    model = MODELS["nested"]()
    listed = rewriter.plan(model).to_dict()["layers"]
    assert [each["path"] for each in listed][:1] == [""]
    assert [each["path"] for each in listed[1:]] == [found.paths[0] for found in locate_layers(model)]
    assert sum(each["parameters"] for each in listed) == model.count_params()
    rewriter.rewrite(model)
    assert rewriter.plan(model).to_dict()["layers"] == listed


class Spectral(layers.Wrapper):
    """A wrapper that keeps its inner layer's kernel for itself, as SpectralNormalization does.

    That one itself builds only where tf.keras is tf_keras: it takes its InputSpec from there.
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.w = self.layer.kernel

    def call(self, inputs):
        return self.layer(inputs)


class Normalized(layers.Wrapper):
    """A wrapper that replaces its inner layer's kernel by a tensor in each call, as weight normalization does."""

    def call(self, inputs):
        kernel = self.layer.kernel
        self.layer.kernel = kernel / tf.norm(kernel, axis=0)
        outputs = self.layer(inputs)
        self.layer.kernel = kernel
        return outputs


class Clipped(layers.Wrapper):
    """A wrapper that assigns to its inner layer's kernel in place."""

    def call(self, inputs):
        self.layer.kernel.assign(tf.clip_by_value(self.layer.kernel, -1, 1))
        return self.layer(inputs)


class SelfClipped(layers.Dense):
    """A Dense subclass that assigns to its own kernel in each call."""

    def call(self, inputs):
        self.kernel.assign(tf.clip_by_value(self.kernel, -1, 1))
        return super().call(inputs)


class Collector(layers.Layer):
    """A layer that keeps another one's kernel in a list."""

    def __init__(self, dense):
        super().__init__()
        self.dense, self.kernels = dense, []

    def call(self, inputs):
        outputs = self.dense(inputs)
        if not self.kernels:
            self.kernels = [self.dense.kernel]
        return outputs


def wrapped(wrapper):
    def build():
        return tf_keras.Sequential([tf_keras.Input((5,)), wrapper(layers.Dense(3), name="wrapper")])

    build.__name__ = wrapper.__name__
    return build


def build_self_clipped():
    return tf_keras.Sequential([tf_keras.Input((5,)), SelfClipped(3, name="dense")])


def build_collected():
    return tf_keras.Sequential([tf_keras.Input((5,)), Collector(layers.Dense(3))])


class Negative(tf.Variable):
    """A variable of another kind, as quantizing libraries have them: it is read otherwise than it is stored."""

    def __init__(self, variable):
        self._variable = variable

    def __getattr__(self, name):
        return getattr(self._variable, name)

    shape = property(lambda self: self._variable.shape)
    dtype = property(lambda self: self._variable.dtype)
    trainable = property(lambda self: self._variable.trainable)


def build_other_kind():
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(4,), name="dense")])
    dense = model.layers[0]
    vars(dense)["kernel"] = Negative(dense.kernel)
    return model


def build_tied():
    first, second = layers.Dense(4, name="first"), layers.Dense(4, name="second")
    model = tf_keras.Sequential([tf_keras.Input((4,)), first, second])
    second.kernel = first.kernel
    return model


def build_replaced():
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(4,), name="dense")])
    dense = model.layers[0]
    kernel = dense.kernel
    del dense.kernel
    dense.kernel = tf.identity(kernel)
    return model


def build_unbuilt():
    return tf_keras.Sequential([layers.Dense(4, name="dense")])


@pytest.mark.parametrize(
    ("builder", "path", "reason"),
    [
        (
            wrapped(Spectral),
            "wrapper/layer",
            "wrapper/layer.kernel and wrapper.w are one variable",
        ),
        (wrapped(Normalized), "wrapper/layer", "the code of Normalized 'wrapper' assigns to its kernel"),
        (wrapped(Clipped), "wrapper/layer", "the code of Clipped 'wrapper' assigns to its kernel"),
        (build_self_clipped, "dense", "the code of SelfClipped 'dense' assigns to its kernel"),
        (build_collected, "collector/dense", "collector/dense.kernel and collector.kernels[0] are one variable"),
        (build_tied, "first", "first.kernel and second.kernel are one variable: merging would untie them"),
        (build_tied, "second", "second.kernel and first.kernel are one variable: merging would untie them"),
        (build_replaced, "dense", "its kernel is no variable of its own but EagerTensor: something replaced it"),
        (build_other_kind, "dense", "its kernel is a Negative, which may be read otherwise than it is stored"),
        (build_unbuilt, "dense", "not built, so it has no weights yet: call the model on a batch"),
    ],
)
def test_a_pair_that_cannot_be_merged_says_why(builder, path, reason):
    """It is skipped with a reason a user understands, and raises under strict, with path and reason."""
    model = builder()
    found = decision(rewriter.plan(model), path)
    assert found.action == "skip"
    assert reason in found.reason
    with pytest.raises(rewriter.NotMergeableError, match=rf"{path} \(\w+\): "):
        rewriter.plan(model, strict=True)
    with pytest.raises(rewriter.NotMergeableError):
        rewriter.rewrite(model, strict=True)


def test_other_layers_with_a_kernel_are_named_and_no_obstacle():
    """A Conv2D is reported and left alone; strict speaks of Dense pairs."""
    model = tf_keras.Sequential(
        [layers.Conv2D(2, 2, input_shape=(4, 4, 1), name="conv"), layers.Flatten(), layers.Dense(3, name="dense")]
    )
    plan = rewriter.plan(model, strict=True)
    assert decision(plan, "conv").reason == "not asked for: layers='dense,conv' merges it too"
    assert [each.path for each in plan.merges] == ["dense"]


def test_strict_raises_where_there_is_nothing_to_merge():
    """A model without a single pair is no success."""
    model = tf_keras.Sequential([layers.Dense(3, use_bias=False, input_shape=(2,))])
    with pytest.raises(rewriter.NotMergeableError, match="has nothing to merge"):
        rewriter.plan(model, strict=True)


@pytest.mark.parametrize(
    ("include", "exclude", "merged"),
    [
        (None, None, ["inner/first", "inner/innermost/deep", "last"]),
        ("inner/*", None, ["inner/first", "inner/innermost/deep"]),
        (["last", "inner/first"], None, ["inner/first", "last"]),
        (None, "*/deep", ["inner/first", "last"]),
        ("inner/*", ["*/deep"], ["inner/first"]),
        (lambda layer: layer.units == 3, None, ["last"]),
    ],
)
def test_selectors(include, exclude, merged):
    """Globs on the path and callables on the layer, one or several."""
    plan = rewriter.plan(MODELS["nested"](), include=include, exclude=exclude)
    assert [each.path for each in plan.merges] == merged


def test_selectors_say_how_many_layers_each_matched():
    """In the data, and in the summary line."""
    plan = rewriter.plan(MODELS["nested"](), include=["inner/*", "last"], exclude="*/deep")
    assert plan.selectors == {"include='inner/*'": 2, "include='last'": 1, "exclude='*/deep'": 1}
    assert plan.to_dict()["selectors"] == plan.selectors
    assert plan.summary().endswith(
        "(include='inner/*' matched 2; include='last' matched 1; exclude='*/deep' matched 1)"
    )


def test_paths_are_attributes_indices_and_keys():
    """Outside Sequential and Functional models a path is how Python reaches the layer."""
    assert [each.path for each in rewriter.plan(ZOO["subclassed"]()).decisions] == [
        "first",
        "listed/0",
        "listed/1",
        "paired/0",
        "named/a",
        "named/b",
        "head",
    ]
    paths = [each.path for each in rewriter.plan(ZOO["custom_layer"]()).merges]
    assert paths[1:-1] == ["block/query", "block/key", "block/feed_forward/0", "block/feed_forward/1"]
    deep = [each.path.split("/", 1)[1] for each in rewriter.plan(ZOO["deep_layer"]()).merges[:2]]
    assert deep == ["grid/0/0", "grid/0/1"]


def test_any_path_of_a_shared_layer_selects_it():
    """A layer shared between levels goes by all of its paths."""
    plan = rewriter.plan(MODELS["shared_across_levels"](), include="inner/both")
    assert [each.reason for each in plan.merges] == ["shared: inner/both, both"]


@pytest.mark.parametrize("option", ["include", "exclude"])
def test_a_selector_that_matches_nothing_is_an_error(option):
    """The message names the option, the selector and the nearest path."""
    with pytest.raises(
        rewriter.SelectorError, match=rf"{option}='inner/frist' matches no .*Did you mean 'inner/first'"
    ):
        rewriter.plan(MODELS["nested"](), **{option: "inner/frist"})
    with pytest.raises(rewriter.SelectorError, match=f"{option} takes shell globs .* got 3 of type int"):
        rewriter.plan(MODELS["nested"](), **{option: [3]})


def test_the_plan_says_which_layers_a_centered_optimizer_centers():
    """Known is what a kernel reads; else the plan says why not."""
    model = tf_keras.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.SeparableConv2D(4, 3),
            layers.Conv2D(4, 3, groups=2),
            layers.Reshape((4, 16)),
            layers.GRU(4, return_sequences=True),
            layers.RNN([layers.LSTMCell(3), layers.LSTMCell(3)]),
            layers.Dense(3),
            layers.Dense(3, use_bias=False),
        ]
    )
    said = {each.path: each.to_dict()["centering"] for each in rewriter.plan(model, layers="all").decisions}
    several = "uncentered: one of several cells in a loop, in which nothing is recorded"
    assert said == {
        "separable_conv2d": "uncentered: the kernel reads what the layer makes of its input",
        "conv2d": "centered",
        "gru/cell": "centered",
        "rnn/cell/cells/0": several,
        "rnn/cell/cells/1": several,
        "dense": "centered",
        "dense_1": None,
    }


def test_a_plan_at_the_prompt_is_a_line():
    """With many layers all of its decisions would be pages."""
    plan = rewriter.plan(MODELS["sequential"]())
    assert repr(plan) == f"<Plan of {plan.summary()}; print it to see each layer>"
    assert "\n" not in repr(plan)


class Gate(layers.Layer):
    def build(self, shape):
        self.w = self.add_weight("w", (shape[-1], 4))
        self.b = self.add_weight("b", (4,))

    def call(self, x):
        return x @ self.w + self.b


class Scale(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight("scale", (shape[-1],))

    def call(self, x):
        return x * self.scale


def test_a_plan_says_which_layers_nobody_has_looked_into():
    """One of a user's class with several weights may have a pair, unless that is declared or looked for."""
    gates = [Gate(name="first"), Gate(name="second")]
    model = tf_keras.Sequential([tf_keras.Input((3,)), *gates, Scale(), layers.BatchNormalization(), layers.Dense(2)])
    said = "not looked into: first (Gate) and 1 other layer, of classes that are not Keras's"
    assert said in str(rewriter.plan(model))
    assert said in rewriter.plan(model).tree()
    assert "not looked into" not in str(rewriter.plan(model, discover=True))
    said = r"It has w, b\. Say which they are: rewriter\.pair\(Gate, kernel="
    with pytest.raises(rewriter.PairError, match=said):
        rewriter.pair(gates[0], kernel="w")
    for gate in gates:
        rewriter.pair(gate, kernel="w", bias="b")
    assert "not looked into" not in str(rewriter.plan(model))
    assert len(rewriter.plan(model).merges) == 3
