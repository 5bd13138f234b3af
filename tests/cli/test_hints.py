"""Each hint of a plan, a warning or an error is true: who follows it gets what it says."""

import re

import numpy as np
import pytest
import tf_keras
from tf_keras import layers, optimizers

import rewriter


def reasons(model, **options):
    return {each.path: each.reason for each in rewriter.plan(model, **options).decisions}


def of_many_kinds():
    """Convolutions with and without bias, of a costly layout, held by two, and layers of no family."""
    inputs = tf_keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="with_bias")(inputs)
    x = layers.Conv2D(4, 3, use_bias=False, name="without_bias")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Conv2DTranspose(4, 2, name="transposed")(x)
    x = layers.PReLU(name="one_weight")(x)
    held = layers.SeparableConv2D(4, 2, name="held")
    x = held(x)
    held.also = [held.bias]
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.EinsumDense("ab,bc->ac", 5, bias_axes="c", name="einsum")(x)
    x = layers.Reshape((5, 1))(x)
    x = layers.LSTM(3, name="lstm")(x)
    return tf_keras.Model(inputs, layers.Dense(2, name="head")(x))


def test_not_asked_for_is_said_only_of_what_would_be_merged():
    """Of a layer without bias, or that cannot be merged, the reason is that."""
    model = of_many_kinds()
    told = reasons(model)
    assert told["without_bias"] == "no bias (use_bias=False)"
    assert told["held"].startswith("held.bias and held.also[0] are one variable")
    hints = {path: re.search(r"not asked for: layers='(.*)' merges it too", reason) for path, reason in told.items()}
    followed = {path: hint.group(1) for path, hint in hints.items() if hint}
    assert {"with_bias", "einsum", "lstm/cell"} <= set(followed)
    for path, families in followed.items():
        chosen = rewriter.plan(model, layers=families.split(","))
        assert {each.path: each.action for each in chosen.decisions}[path] == "merge"
    everything = rewriter.plan(model, layers="all")
    merged = {each.path for each in everything.merges}
    assert merged == {*followed, "head"}  # no hint is missing either
    unasked = {each.path for each in rewriter.plan(model).decisions if each.unasked}
    assert unasked == set(followed)


def test_convolutions_without_bias_under_a_dense_head():
    """As in MobileNetV2: no convolution is said to merge that does not."""
    base = tf_keras.applications.MobileNetV2((32, 32, 3), include_top=False, weights=None, pooling="avg", alpha=0.35)
    model = tf_keras.Sequential([base, layers.Dense(3)])
    assert not any("not asked for" in reason for reason in reasons(model).values())
    assert "layers=" not in str(rewriter.plan(model))


class Pair(layers.Layer):
    def build(self, shape):
        self.kernel, self.shift = self.add_weight("kernel", (shape[-1], 4)), self.add_weight("shift", (4,))

    def call(self, inputs):
        return inputs @ self.kernel + self.shift


class Scales(Pair):
    """Has two weights, and nothing that could be found."""

    def call(self, inputs):
        return (inputs @ self.kernel) * self.shift


class Alone(layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight("kernel", (shape[-1], 4))

    def call(self, inputs):
        return inputs @ self.kernel


def test_what_is_of_no_family():
    """A weight alone is told nothing to do; where a pair can be found or told, both do what is said."""
    model = tf_keras.Sequential(
        [layers.Dense(3, input_shape=(5,)), Alone(name="alone"), Pair(name="pair"), Scales(name="s")]
    )
    told = reasons(model)
    assert told["alone"] == "Alone has one weight alone: there is no bias that could be merged with it"
    hint = "is of no known family: discover=True looks for a pair in it, and rewriter.pair declares one"
    assert told["pair"] == f"Pair {hint}"
    assert told["s"] == f"Scales {hint}"
    looked = rewriter.plan(model, discover=True)
    by_path = {each.path: each for each in looked.decisions}
    assert by_path["pair"].action == "merge"
    assert (
        by_path["s"].reason
        == "Scales is of no known family: discover=True found no pair in it, and rewriter.pair declares one"
    )
    rewriter.pair(model.layers[2], "kernel", "shift")
    assert reasons(model)["pair"] == "declared: kernel and shift"


@pytest.mark.parametrize("bias", [True, False])
def test_all_layers_is_a_hint_where_it_merges_something(bias):
    """A model of convolutions alone, with and without biases."""
    model = tf_keras.Sequential([layers.Conv1D(3, 2, use_bias=bias, input_shape=(5, 2))])
    with pytest.warns(UserWarning, match="is left as it is") as caught:
        rewriter.rewrite(model)
    assert ("layers='all' merges more" in str(caught[0].message)) is bias
    assert bool(rewriter.plan(model, layers="all").merges) is bias


def test_keep_is_a_hint_where_it_keeps():
    """Not for an optimizer that it refuses: that trains variables of others too."""
    model = tf_keras.Sequential([layers.Dense(3, input_shape=(5,))])
    other = tf_keras.Sequential([layers.Dense(3, input_shape=(5,))])
    for shared in (False, True):
        optimizer = optimizers.Adam(0.03)
        optimizer.build([*model.trainable_variables, *(other.trainable_variables if shared else [])])
        model.compile(optimizer, "mse")
        with pytest.warns(UserWarning, match="state of Adam: lost") as caught:
            rewriter.rewrite(model)
        assert ("optimizer='keep' or optimizer='centered' keeps it" in str(caught[0].message)) is not shared
        rewriter.split(model)


class Own(optimizers.SGD):
    pass


class NotElementwise(optimizers.SGD):
    """Keeps a number for each variable."""

    def build(self, var_list):
        super().build(var_list)
        if not hasattr(self, "norms"):
            self.norms = [self.add_variable((), name="norm") for _ in var_list]


def test_to_pass_the_optimizer_itself_is_a_hint_where_it_is_taken():
    """An error about 'keep' names what to do instead, which works; else it says what stands in the way."""
    x, y = np.ones((4, 5), "float32"), np.ones((4, 3), "float32")
    for make, hinted in ((lambda: Own(0.03, momentum=0.87), True), (lambda: NotElementwise(0.03), False)):
        model = tf_keras.Sequential([layers.Dense(3, input_shape=(5,))])
        model.compile(make(), "mse")
        model.train_on_batch(x, y)
        with pytest.raises(rewriter.OptimizerError) as refused:
            rewriter.rewrite(model, "keep")
        assert ("optimizer=model.optimizer" in str(refused.value)) is hinted
        if hinted:
            rewriter.rewrite(model, optimizer=model.optimizer)
            assert isinstance(model.optimizer, Own)
        else:
            assert "its slots are not one number for each weight" in str(refused.value)


def test_what_is_not_built_merges_once_it_is():
    """As the plan says: by a call, or by build."""
    for build in (lambda model: model(np.ones((2, 5))), lambda model: model.build((None, 5))):
        model = tf_keras.Sequential([layers.Dense(3)])
        with pytest.raises(rewriter.ModelError, match=r"Call it on a batch, or model\.build\(input_shape\)"):
            rewriter.rewrite(model)
        build(model)
        rewriter.rewrite(model)
        assert hasattr(model.layers[0], "augmented_kernel")


def test_near_paths_that_an_error_names_match():
    """Each suggestion, put in the place of what matched nothing, matches."""
    model = of_many_kinds()
    for wrong in ("Head", "with-bias", "lstm_cell", "lstm"):
        with pytest.raises(rewriter.SelectorError) as error:
            rewriter.plan(model, include=wrong)
        meant = re.search(r"Did you mean (.*)\?", str(error.value)).group(1)
        for each in re.findall(r"'(.*?)'", meant):
            rewriter.plan(model, include=each)


def test_the_command_line_says_options_that_do_the_same(run, tmp_path):
    """What `inspect` says of a convolution, followed to the letter."""
    model = tf_keras.Sequential(
        [layers.Conv1D(3, 2, name="conv", input_shape=(5, 2)), layers.Flatten(), layers.Dense(2)]
    )
    model.save(tmp_path / "m.keras")
    _, out, _ = run("inspect", tmp_path / "m.keras")
    option = re.search(r"not asked for: (--layers) '(.*)' merges it too", out)
    _, out, _ = run("inspect", tmp_path / "m.keras", *option.groups())
    assert "2 of 2 layers with a kernel can be merged" in out
