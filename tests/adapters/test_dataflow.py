"""What a graph does with the weights of a layer: which product and which addition are a pair, however it is written."""

import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from discovered import SQUARE, Custom, found_in, found_pairs
from rewriter.planning.pair_discovery import discover

FOUND = {
    "plain": (SQUARE, lambda s, x: x @ s.w + s.b),
    "bias first": (SQUARE, lambda s, x: s.b + x @ s.w),
    "bias_add": (SQUARE, lambda s, x: tf.nn.bias_add(x @ s.w, s.b)),
    "einsum": (SQUARE, lambda s, x: tf.einsum("bi,io->bo", x, s.w) + s.b),
    "einsum of rows": (SQUARE, lambda s, x: tf.einsum("bi,oi->bo", x, s.w) + s.b),
    "tensordot": (SQUARE, lambda s, x: tf.tensordot(x, s.w, 1) + s.b),
    "kernel on the left": (
        {"w": (4, 4), "b": (4, 1)},
        lambda s, x: tf.transpose(s.w @ tf.transpose(x) + s.b),
    ),
    "residual between": (SQUARE, lambda s, x: (x @ s.w + x) + s.b),
    "cast": (
        SQUARE,
        lambda s, x: tf.cast(tf.cast(x, "float64") @ tf.cast(s.w, "float64") + tf.cast(s.b, "float64"), "float32"),
    ),
    "in tf.function": (SQUARE, lambda s, x: tf.function(lambda y: y @ s.w + s.b)(x)),
    "in tf.cond": (
        SQUARE,
        lambda s, x: tf.cond(tf.reduce_sum(x) > 0, lambda: x @ s.w + s.b, lambda: -x @ s.w + s.b),
    ),
    "in tf.map_fn": (SQUARE, lambda s, x: tf.map_fn(lambda row: tf.linalg.matvec(s.w, row, transpose_a=True) + s.b, x)),
    "kernel transposed before": (SQUARE, lambda s, x: x @ tf.transpose(s.w) + s.b),
    "bias of a row": ({"w": (4, 4), "b": (1, 4)}, lambda s, x: x @ s.w + s.b),
}


@pytest.mark.parametrize(("shapes", "call"), FOUND.values(), ids=FOUND)
def test_however_it_is_written(shapes, call):
    """A product and an addition are found through casts, reshapes, transposes, functions, conditions and loops."""
    assert found_in(shapes, call) == ([("w", "b")], {})


def test_what_flows_into_the_same_units_is_one_pair():
    """Kernels whose products are added up share their bias, several biases their kernel; pieces belong together."""
    two = {"w": (4, 4), "u": (4, 4), "b": (4,)}
    assert found_in(two, lambda s, x: x @ s.w + tf.tanh(x) @ s.u + s.b)[0] == [("w", "u", "b")]
    assert found_in(two, lambda s, x: (x @ s.w + s.b) + tf.tanh(x) @ s.u)[0] == [("w", "u", "b")]
    assert found_in({**two, "c": (4,)}, lambda s, x: (x @ s.w + s.b) + (tf.tanh(x) @ s.u + s.c))[0] == [
        ("w", "b"),
        ("u", "c"),
    ]
    assert found_in({**SQUARE, "c": (4,)}, lambda s, x: x @ s.w + s.b + s.c)[0] == [("w", "b", "c")]
    gates = {"w": (4, 6), "b": (6,)}

    def by_pieces(s, x):
        kernels, biases = tf.split(s.w, 2, axis=1), tf.split(s.b, 2)
        return tf.tanh(x @ kernels[0] + biases[0]) * (x @ kernels[1] + biases[1])

    assert found_in(gates, by_pieces) == ([("w", "b")], {})


BRANCHES = {
    "a bias after both": (lambda s, x: tf.cond(s.p(x), lambda: x @ s.w, lambda: x @ s.u) + s.b, [("w", "u", "b")]),
    "the same after another sum": (
        lambda s, x: tf.cond(s.p(x), lambda: x @ s.w, lambda: x @ s.w + x @ s.u) + s.b,
        [("w", "u", "b")],
    ),
    "experts": (lambda s, x: tf.cond(s.p(x), lambda: x @ s.w + s.b, lambda: x @ s.u + s.c), [("w", "b"), ("u", "c")]),
    "a switch": (
        lambda s, x: tf.switch_case(tf.cast(s.p(x), "int32"), [lambda: x @ s.w + s.b, lambda: x @ s.u + s.c]),
        [("w", "b"), ("u", "c")],
    ),
    "something else in one": (lambda s, x: tf.cond(s.p(x), lambda: x @ s.w, lambda: x) + s.b, []),
    "other units in one": (
        lambda s, x: tf.cond(s.p(x), lambda: tf.matmul(x, s.w), lambda: tf.transpose(tf.transpose(x) @ s.w)) + s.b,
        [],
    ),
}


@pytest.mark.parametrize(("call", "pairs"), BRANCHES.values(), ids=BRANCHES)
def test_what_a_condition_gives(call, pairs):
    """A bias added to the outcome belongs to what flows into its units in every branch, and to nothing else."""

    class Branching(Custom):
        @staticmethod
        def p(x):
            return tf.reduce_sum(x) > 0

    shapes = {"w": (4, 4), "u": (4, 4), "b": (4,), "c": (4,)}
    model = tf_keras.Sequential([layers.InputLayer((4,), batch_size=4), Branching(shapes, call, name="custom")])
    assert [pair.attributes for pair in found_pairs(model, discover(model)).get("custom", ())] == pairs


ROWS = {"w": (4, 4), "b": (4,)}
OTHERWISE = {
    "turned round": lambda s, x: x @ s.w + s.b[::-1],
    "units turned round": lambda s, x: x @ s.w[:, ::-1] + s.b,
    "pieces crossed": lambda s, x: tf.concat([x @ s.w[:, :2] + s.b[2:], x @ s.w[:, 2:] + s.b[:2]], -1),
    "pieces of a split crossed": lambda s, x: tf.concat(
        [x @ k + b for k, b in zip(tf.split(s.w, 2, 1), tf.split(s.b, 2)[::-1], strict=True)], -1
    ),
    "another half": lambda s, x: x @ s.w[:, :2] + s.b[2:],
    "every other": lambda s, x: x @ s.w[:, :2] + s.b[::2],
    "halves of the result crossed": lambda s, x: (x @ s.w)[:, :2] + s.b[2:],
    "added along another axis": lambda s, x: tf.einsum("btc,ts->bsc", tf.stack([x] * 4, 1), s.w) + s.b,
    "added to the rows": lambda s, x: tf.stack([x] * 4, 1) @ s.w + s.b[:, None],
    "added after a transposition": lambda s, x: tf.transpose(tf.stack([x] * 4, 1) @ s.w, [0, 2, 1]) + s.b,
    "added to other groups": lambda s, x: (
        tf.transpose(tf.reshape(tf.stack([x] * 4, 1) @ s.w, [-1, 4, 2, 2]), [0, 1, 3, 2]) + tf.reshape(s.b, (2, 2))
    ),
}


@pytest.mark.parametrize("call", OTHERWISE.values(), ids=OTHERWISE)
def test_a_bias_of_other_units_is_none(call):
    """Numbers are added to a product, and not each to the unit it would stand below: a column would be no unit."""
    pairs, remarks = found_in(ROWS, call)
    assert pairs == []
    assert set(remarks) == {"custom.w", "custom.b"}


def test_a_bias_for_each_position_is_none():
    """It has more numbers than units, and its rows are no connections of a unit."""
    pairs, remarks = found_in({"w": (4, 4), "b": (3, 4)}, lambda s, x: tf.stack([x] * 3, 1) @ s.w + s.b)
    assert pairs == []
    assert set(remarks) == {"custom.w", "custom.b"}


def test_pieces_that_match_are_one_pair():
    """By a split, a slice or an index, of the weights or of the result, in any order."""
    for call in (
        lambda s, x: tf.concat([x @ s.w[:, 2:] + s.b[2:], x @ s.w[:, :2] + s.b[:2]], -1),
        lambda s, x: (x @ s.w)[:, 1:3] + s.b[1:3],
        lambda s, x: tf.split(x @ s.w, 2, axis=1)[1] + tf.split(s.b, 2)[1],
        lambda s, x: tf.transpose(tf.transpose(tf.stack([x] * 4, 1) @ s.w, [0, 2, 1]) + s.b[:, None], [0, 2, 1]),
        lambda s, x: tf.reshape(tf.reshape(x, (-1, 2, 2)) @ s.w[:2], (-1, 2, 4)) + s.b,
    ):
        assert found_in(ROWS, call)[0] == [("w", "b")]
