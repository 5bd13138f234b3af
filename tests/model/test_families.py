"""Every family of layers beside Dense: there and back, training, files, and what a column of W* holds."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from rewriter.cli import common
from tf_keras import layers

import rewriter
from arrays import bits
from family_models import FAMILIES, attention, conv_2d, recurrent
from hand_made_models import hand_made
from model_state import state
from models import batch, fit, trained_pair
from processes import ROOT, run_script
from rewriter.model.families import ALL, NAMES
from rewriter.model.families import FAMILIES as TABLE
from rewriter.model.walk import locate_layers
from rewriter.planning import merge_cost

EVERY = {**FAMILIES, "hand_made": hand_made}
ALL_FAMILIES = pytest.mark.parametrize("builder", EVERY.values(), ids=EVERY)


@pytest.fixture(autouse=True)
def _whatever_it_costs(monkeypatch):
    """Layers as small as these are used too few times to be worth a transposed copy; here they are merged."""
    monkeypatch.setattr("rewriter.planning.merge_cost._ENOUGH_USES", 0)


def widest(builder):
    """How all that can be merged of a model is asked for."""
    return {"layers": "all", "discover": builder is hand_made}


@ALL_FAMILIES
def test_split_inverts_rewrite(builder):
    """Weights bit for bit, names, order, classes, losses and checkpoint dependencies, with nothing left over."""
    model = builder()
    model(batch()[0])
    before = state(model)
    rewriter.rewrite(model, **widest(builder))
    assert len(rewriter.plan(model).merged) >= 4
    rewriter.split(model)
    assert state(model) == before


@pytest.mark.slow
@ALL_FAMILIES
def test_adam_goes_on_bit_for_bit(builder):
    """Outputs, losses, weights and slots are those of the unrewritten model, before and after five epochs."""
    original, model = trained_pair(builder)
    x, _ = batch()
    rewriter.rewrite(model, "keep", strict=True, **{**widest(builder), "discover": False})
    if builder is hand_made:
        rewriter.rewrite(model, "keep", discover=True)
    assert bits(model(x)) == bits(original(x))
    assert fit(model, 5).history == fit(original, 5).history
    rewriter.split(model)
    assert [bits(each.numpy()) for each in model.weights] == [bits(each.numpy()) for each in original.weights]
    slots = [[bits(each.numpy()) for each in each_of.optimizer.variables] for each_of in (model, original)]
    assert slots[0] == slots[1]


def drawn(builder):
    """A model of which no weight is zero, as biases are at first."""
    model, generator = builder(), np.random.default_rng(4)
    model.set_weights([generator.standard_normal(weight.shape) / 2 for weight in model.get_weights()])
    return model


# Writing and reading takes seconds; of these some have layers that the config does not name, some have not.
FILES = [(builder, ".keras") for builder in EVERY.values()]
FILES += [(builder, ending) for builder in (conv_2d, recurrent, hand_made) for ending in (".h5", "")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("builder", "ending"), FILES, ids=[f"{each.__name__}{ending or '-folder'}" for each, ending in FILES]
)
def test_files(builder, ending, tmp_path):
    """A rewritten file is read back merged, told nothing, and exports to what Keras reads."""
    model = drawn(builder)
    x, _ = batch()
    expected = [bits(weight.numpy()) for weight in model.weights]
    outputs = model(x)
    rewriter.rewrite(model, **widest(builder))
    merged = len(rewriter.plan(model).merged)
    joint, plain = tmp_path / f"joint{ending}", tmp_path / f"plain{ending}"
    rewriter.save_model(model, joint)
    again = rewriter.load_model(joint)
    assert len(rewriter.plan(again).merged) == merged
    assert bits(again(x)) == bits(outputs)
    rewriter.export(again, plain)
    assert len(rewriter.plan(again).merged) == merged
    back = tf_keras.models.load_model(plain)
    assert [bits(weight.numpy()) for weight in back.weights] == expected


@pytest.mark.slow
@pytest.mark.parametrize("builder", [recurrent, hand_made])
def test_a_new_process_reads_cells_and_pairs_that_it_was_not_told(builder, tmp_path):
    """The file says which weights are merged, also where Keras makes the layer that has them, or nobody knows it."""
    model = builder()
    rewriter.rewrite(model, **widest(builder))
    rewriter.save_model(model, tmp_path / "joint.keras")
    merged, outputs = run_script("count_merged", tmp_path / "joint.keras")
    assert merged == len(rewriter.plan(model).merged)
    assert bits(np.asarray(outputs, "float32")) == bits(model.predict(batch()[0], verbose=0))


def rows_of(layer):
    """The augmented kernel that a layer should have, by NumPy: one row for every connection into a unit."""
    weights = [weight.numpy() for weight in layer.weights]
    match layer:
        case layers.SeparableConv1D() | layers.SeparableConv2D():
            _, kernel, bias = weights
            return np.concatenate([kernel.reshape(-1, len(bias)), bias[None]])
        case layers.Conv1DTranspose() | layers.Conv2DTranspose() | layers.Conv3DTranspose():
            kernel, bias = weights
            return np.concatenate([np.moveaxis(kernel, -2, -1).reshape(-1, len(bias)), bias[None]])
        case layers.EinsumDense():
            kernel, bias = weights
            _, axes, outputs = layer.equation.replace(".", "").replace("->", ",").split(",")
            units = [axis for axis in axes if axis in outputs]
            summed = "".join(axis for axis in axes if axis not in outputs)
            rows = np.einsum(f"{axes}->{summed}{''.join(units)}", kernel).reshape(-1, bias.size)
            last = "".join(axis for axis in outputs if axis in units)
            return np.concatenate([rows, np.einsum(f"{last}->{''.join(units)}", bias).reshape(1, -1)])
        case layers.SimpleRNNCell() | layers.LSTMCell() | layers.GRUCell():
            kernel, recurrent_kernel, bias = weights
            return np.concatenate([kernel, recurrent_kernel, bias.reshape(-1, kernel.shape[-1])])
    kernel, bias = weights  # a depthwise one among them: an input channel's multipliers are units side by side
    return np.concatenate([kernel.reshape(-1, len(bias)), bias[None]])


@pytest.mark.parametrize("builder", FAMILIES.values(), ids=FAMILIES)
def test_a_column_holds_all_that_flows_into_a_unit(builder):
    """W* is what NumPy stacks of the weights, family by family."""
    model = drawn(builder)
    located = locate_layers(model)
    expected = {d.path: rows_of(d.target) for d in rewriter.plan(model, layers=ALL).merges}
    rewriter.rewrite(model, layers=ALL)
    found = {found.paths[0]: found.layer for found in located}
    for path, rows in expected.items():
        assert bits(found[path].augmented_kernel.numpy()) == bits(rows), path


def test_every_line_of_the_table_is_tried():
    """No family is in the table without a model here."""
    tried = {type(found.layer).__name__ for builder in FAMILIES.values() for found in locate_layers(builder())}
    assert {cls for family in TABLE for cls in family.classes} <= tried


def test_the_families_are_called_alike_everywhere():
    """The docs, the docstrings and the help of the command line name those of the table, and the same bound."""
    page = (ROOT / "docs" / "how_to" / "other_layers.md").read_text("utf-8")
    options = common.Layers.__metadata__[0].help
    for name in (*NAMES, ALL):
        assert f'"{name}"' in page
        assert f'"{name}"' in rewriter.plan.__doc__
        assert f'"{name}"' in rewriter.rewrite.__doc__
        assert name in options
    assert "used 256 times an example or more" in " ".join(page.split())


def test_layers_says_which_families():
    """Dense alone by default; each name its own; all, or several, together; the rest says which name would merge it."""
    model = attention()

    def merged(**options):
        return [decision.path for decision in rewriter.plan(model, **options).merges]

    dense = merged()
    assert [path for path in dense if "attention" in path] == []
    einsum = merged(layers="einsum")
    assert len(einsum) == 4
    assert sorted(merged(layers=("dense", "einsum"))) == sorted(merged(layers="all")) == sorted(dense + einsum)
    assert merged(layers=()) == []
    assert merged(layers="dense, einsum") == merged(layers=["dense", "einsum"])
    skipped = [each for each in rewriter.plan(model).decisions if each.action == "skip"]
    assert {each.reason for each in skipped} == {"not asked for: layers='dense,einsum' merges it too"}


def test_an_unknown_family_is_an_error_with_the_near_name():
    """A misspelt family is answered with the right one, and all there are."""
    for given, hint in [
        ("convs", "conv"),
        (["dense", "recurent"], "recurrent"),
        ("LSTM", "recurrent"),
        ("Conv2D", "conv"),
    ]:
        with pytest.raises(rewriter.SelectorError, match=rf"Did you mean '{hint}'\?"):
            rewriter.plan(attention(), layers=given)
    with pytest.raises(rewriter.SelectorError, match=", ".join(NAMES)):
        rewriter.rewrite(attention(), layers="x")


@pytest.mark.parametrize(
    ("equation", "options", "axes"),
    [("abc,cd->abd", {"output_shape": (4, 5), "bias_axes": "bd"}, "'d'"), ("abc,bc->abc", {}, "'bc'")],
)
def test_other_equations_are_skipped_with_a_reason(equation, options, axes):
    """A bias of its own for each position, or one for several units, is no row of the kernel's units."""
    given = {"output_shape": (4, 6), "bias_axes": "c", **options}
    model = tf_keras.Sequential([layers.InputLayer((4, 6)), layers.EinsumDense(equation, name="e", **given)])
    decision = rewriter.plan(model, layers="einsum").decisions[0]
    assert decision.action == "skip"
    assert (
        f"in {equation} the kernel's output axes are {axes} and its bias_axes {given['bias_axes']!r}" in decision.reason
    )


@pytest.mark.parametrize("exact", [True, False])
def test_a_graph_does_not_fold_what_would_round_otherwise(exact):
    """A product that reads a transposition becomes another product, which some processors round otherwise."""
    model = rewriter.rewrite(hand_made(), discover=True, exact=exact)
    mixing = model.get_layer("mixing")
    graph = tf.function(mixing.call).get_concrete_function(tf.TensorSpec((None, 4))).graph
    read = {each.op.type for product in graph.get_operations() if product.type == "MatMul" for each in product.inputs}
    assert ("Transpose" in read) is not exact


def test_a_transposed_copy_must_be_worth_it(monkeypatch):
    """Units before the last axis mean a copy a step: merged where each weight is used often, and else skipped."""
    monkeypatch.undo()
    assert merge_cost._ENOUGH_USES == 256  # as the docs say

    def model(size, positions):
        return tf_keras.Sequential(
            [
                layers.InputLayer((size, size, 3)),
                layers.Conv2DTranspose(4, 3, strides=2, name="conv"),
                layers.Reshape((positions, -1)) if positions else layers.Flatten(),
                layers.EinsumDense("...c,dc->...d", 3, bias_axes="d", name="einsum"),
            ]
        )

    few = {each.path: each for each in rewriter.plan(model(8, None), layers="all").decisions}
    assert {each.action for each in few.values()} == {"skip"}
    assert "copy its kernel, transposed" in few["conv"].reason
    assert "use it only 64 times" in few["conv"].reason
    assert "use it only 1 times" in few["einsum"].reason
    with pytest.raises(rewriter.NotMergeableError, match="transposed"):
        rewriter.plan(model(8, None), layers="all", strict=True)
    assert len(rewriter.plan(model(16, 1089), layers="all", strict=True).merges) == 2


def test_without_bias_and_frozen():
    """A layer without bias is skipped; a frozen one is merged, stays as it is in training, and frozen after."""
    model = tf_keras.Sequential(
        [
            layers.InputLayer((4, 4, 2)),
            layers.Conv2D(3, 2, use_bias=False, name="bare"),
            layers.Conv2D(3, 2, name="frozen", trainable=False),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    model.compile("sgd", "mse")
    decisions = {each.path: each for each in rewriter.plan(model, layers="conv").decisions}
    assert decisions["bare"].reason == "no bias (use_bias=False)"
    rewriter.rewrite(model, "keep", layers="conv")
    frozen = model.get_layer("frozen")
    before = bits(frozen.augmented_kernel.numpy())
    model.fit(np.ones((4, 4, 4, 2)), np.ones((4, 3)), verbose=0)
    assert bits(frozen.augmented_kernel.numpy()) == before
    assert not frozen.trainable_weights
    rewriter.split(model)
    assert [weight.name for weight in frozen.non_trainable_weights] == ["frozen/kernel:0", "frozen/bias:0"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("builder", "policy"),
    [(conv_2d, "mixed_float16"), (attention, "float64"), (conv_2d, "mixed_bfloat16"), (recurrent, "mixed_float16")],
)
def test_dtypes(builder, policy):
    """Stored and computed in the dtypes of the unrewritten model, bit for bit, through a step of training."""
    tf_keras.mixed_precision.set_global_policy(policy)
    try:
        original, model = trained_pair(builder, epochs=0)
        rewriter.rewrite(model, "keep", layers="all")
        for each in (original, model):
            fit(each)
        x, _ = batch()
        assert bits(model(x)) == bits(original(x))
        rewriter.split(model)
        assert [bits(each.numpy()) for each in model.weights] == [bits(each.numpy()) for each in original.weights]
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")


def test_a_loop_slices_the_kernel_once():
    """The views of a cell are made outside of the loop over its steps: no split in the body, nor in its gradient."""
    model = tf_keras.Sequential([layers.InputLayer((6, 4)), layers.SimpleRNN(3)])
    rewriter.rewrite(model, "JointMomentum", layers="recurrent")

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x, training=True))
        return tape.gradient(loss, model.trainable_variables)

    graph = step.get_concrete_function(tf.TensorSpec((2, 6, 4))).graph.as_graph_def()
    outside = [node.op for node in graph.node]
    inside = [node.op for function in graph.library.function for node in function.node_def]
    assert outside.count("SplitV") == 1
    assert outside.count("ConcatV2") == 1
    assert not {"SplitV", "ConcatV2"} & set(inside)


def test_a_layer_of_cells_is_left_as_it_was():
    """The recurrent layer over a rewritten cell is of its own class again after a split, and in standard form."""
    model = recurrent()
    classes = [type(found.layer) for found in locate_layers(model)]
    rewriter.rewrite(model, layers="recurrent")
    loop = model.layers[2]
    assert type(loop).__qualname__ == "AugmentedSimpleRNN"
    assert isinstance(loop, layers.SimpleRNN)
    with rewriter.standard_form(model):
        assert [type(found.layer) for found in locate_layers(model)] == classes
    assert type(loop).__qualname__ == "AugmentedSimpleRNN"
    rewriter.split(model)
    assert [type(found.layer) for found in locate_layers(model)] == classes


def test_joint_momentum_averages_all_that_flows_into_a_gate():
    """One step of the rule on an LSTM, by NumPy: the mean runs over input, state and bias rows of each gate."""
    model = tf_keras.Sequential([layers.InputLayer((4, 3)), layers.LSTM(2)])
    rewriter.rewrite(model, rewriter.JointMomentum(0.5, 0.8), layers="recurrent")
    cell = model.layers[0].cell
    x = np.random.default_rng(1).standard_normal((5, 4, 3)).astype("float32")
    mean, weights = np.zeros(8), cell.augmented_kernel.numpy().astype("float64")
    for _ in range(3):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x) ** 2)
        gradient = tape.gradient(loss, cell.augmented_kernel)
        model.optimizer.apply_gradients([(gradient, cell.augmented_kernel)])
        weights = weights - 0.5 * (gradient.numpy() + 0.8 * mean)
        mean = gradient.numpy().mean(axis=0) + 0.8 * mean
        np.testing.assert_allclose(cell.augmented_kernel.numpy(), weights, rtol=1e-5, atol=1e-6)
    assert cell.augmented_kernel.shape == (3 + 2 + 1, 8)


def test_from_the_command_line(run, tmp_path):
    """--layers widens what inspect shows and rewrite merges, and export gives back what Keras wrote."""
    model = conv_2d()
    model.compile("adam", "mse")
    model.save(tmp_path / "base.keras")
    code, out, _ = run("inspect", tmp_path / "base.keras", "--json", "--layers", "conv")
    assert code == 0
    assert json.loads(out)["merge"] == 4
    code, out, _ = run("rewrite", tmp_path / "base.keras", tmp_path / "joint.keras", "--layers", "all")
    assert code == 0
    assert "6 of 6 layers with a kernel" in out
    code, _, _ = run("export", tmp_path / "joint.keras", tmp_path / "plain.keras")
    assert code == 0
    back = tf_keras.models.load_model(tmp_path / "plain.keras")
    assert [bits(each.numpy()) for each in back.weights] == [bits(each.numpy()) for each in model.weights]
    code, _, err = run("rewrite", tmp_path / "base.keras", tmp_path / "x.keras", "--layers", "dens")
    assert code == 2
    assert "Did you mean 'dense'?" in err


@pytest.mark.parametrize("ending", [".keras", ".h5", ""])
def test_a_cell_that_keras_makes_is_in_the_file(ending, tmp_path):
    """An LSTM asks its cell for a config and leaves it out of its own: the file says what is merged all the same."""
    model = tf_keras.Sequential([layers.InputLayer((6, 4)), layers.LSTM(3), layers.Dense(2)])
    rewriter.rewrite(model, layers="all")
    path = tmp_path / f"joint{ending}"
    rewriter.save_model(model, path)
    again = rewriter.load_model(path)
    assert len(rewriter.plan(again).merged) == 2
    assert rewriter.verify(model, again).same


def test_a_path_of_a_recurrent_layer_is_answered_with_its_cell():
    """The kernels are the cell's; whoever names the layer is told the path."""
    model = tf_keras.Sequential([layers.InputLayer((6, 4)), layers.LSTM(3, name="a")])
    with pytest.raises(rewriter.SelectorError, match="Did you mean 'a/cell'"):
        rewriter.plan(model, include="a", layers="all")
