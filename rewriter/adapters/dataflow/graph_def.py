"""What a graph of TensorFlow does with variables: its operations, one after the other.

Functions are entered at each call, a condition in both branches, and the body of a loop until its values no longer
change.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf

from . import dimensions
from . import tensorflow_operations as operations
from .dimensions import Dimension
from .uses import Read, Sum, Uses, Value, either, until_the_same, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ..records import Dataflow
    from .dimensions import Left, Numbers


class Handle(NamedTuple):
    """The resource of a variable, by a number of the caller's."""

    variable: int


class Constant(NamedTuple):
    """Whole numbers, which say a shape, a permutation or an axis."""

    numbers: Numbers


_Value = Handle | Constant | Value


def interpret(graph: Any, handles: Mapping[str, int], shapes: Mapping[int, tuple[int, ...]]) -> Dataflow:
    """Interpret a graph.

    Args:
        graph: A ``GraphDef``, with the functions it calls.
        handles: Which variable the resource of a placeholder is, by the name of its node.
        shapes: The shape of each variable.
    """
    interpreter = _Interpreter({function.signature.name: function for function in graph.library.function}, shapes)
    interpreter.run(graph.node, {name: [Handle(variable)] for name, variable in handles.items()})
    return interpreter.found


def interpret_function(traced: Any, numbers: Mapping[int, int], shapes: Mapping[int, tuple[int, ...]]) -> Dataflow:
    """Interpret the graph of a concrete function.

    Args:
        traced: The function.
        numbers: The number of each variable, by the ``id`` of its resource; of several resources, one a device, each.
        shapes: The shape of each variable.
    """
    captured = traced.captured_inputs
    # What a graph captures comes after its arguments.
    placeholders = traced.inputs[len(traced.inputs) - len(captured) :]
    handles = {
        placeholder.op.name: numbers[id(handle)]
        for placeholder, handle in zip(placeholders, captured, strict=True)
        if id(handle) in numbers
    }
    return interpret(traced.graph.as_graph_def(add_shapes=True), handles, shapes)


# A constant that says a shape, a permutation or an axis is short. Longer ones are data.
_MOST_NUMBERS = 64


class _Interpreter:
    def __init__(self, functions: Mapping[str, Any], shapes: Mapping[int, tuple[int, ...]]) -> None:
        self._uses = Uses(shapes)
        self._functions = functions

    @property
    def found(self) -> Dataflow:
        """What was found so far."""
        return self._uses.found

    def run(self, nodes: Iterable[Any], values: dict[str, Sequence[_Value]]) -> None:
        """Interpret nodes in the order in which they were made; their values go beside those given, by name."""
        for node in nodes:
            if node.name not in values:
                # "^name" is a control input: an order, not a value.
                arguments = [_look_up(values, name) for name in node.input if not name.startswith("^")]
                values[node.name] = self._outputs(node, arguments)

    def _call(self, name: str, arguments: Sequence[_Value]) -> list[_Value]:
        function = self._functions[name]
        inputs = zip(function.signature.input_arg, arguments, strict=True)
        values: dict[str, Sequence[_Value]] = {argument.name: [value] for argument, value in inputs}
        self.run(function.node_def, values)
        return [_look_up(values, function.ret[output.name]) for output in function.signature.output_arg]

    def _outputs(self, node: Any, arguments: list[_Value]) -> Sequence[_Value]:
        handler = _HANDLERS.get(node.op)
        if handler is not None:
            return handler(self, node, arguments)
        # An operation that is not in the table ends the interpretation here: the variable is used "otherwise".
        self._uses.used(node.op, arguments)
        return []

    def _called(self, node: Any, arguments: list[_Value]) -> list[_Value]:
        return self._call(node.attr["f"].func.name, arguments)

    def _packed(self, node: Any, values: list[_Value]) -> list[_Value]:
        numbers = [value.numbers for value in values if isinstance(value, Constant)]
        if len(numbers) == len(values):
            return [Constant(tuple(itertools.chain(*numbers)))]
        self._uses.used(node.op, values)
        return []

    def _branches(self, node: Any, arguments: list[_Value]) -> list[_Value]:
        # The first argument is the condition. "Case" has a list of branches, "If" has two.
        branches = node.attr["branches"].list.func or [node.attr["then_branch"].func, node.attr["else_branch"].func]
        results = [self._call(branch.name, arguments[1:]) for branch in branches]
        return [either(values) for values in zip(*results, strict=True)]

    def _loop(self, node: Any, arguments: list[_Value]) -> list[_Value]:
        def step(values: list[_Value]) -> list[_Value]:
            self._call(node.attr["cond"].func.name, values)
            return self._call(node.attr["body"].func.name, values)

        return until_the_same(step, arguments)

    def _product(self, node: Any, arguments: list[_Value]) -> list[_Value]:
        def left(place: int, rank: int) -> Left | None:
            return operations.PRODUCTS[node.op](node, place, rank)

        return [self._uses.product(node.op, arguments, left, _shape_of(node))]

    def _sum(self, node: Any, values: list[_Value]) -> list[_Value]:
        # "NCHW": BiasAdd adds along the first dimension after the batch, and not along the last.
        first = node.attr["data_format"].s.startswith(b"NC")
        ranks = [len(each.dimensions) for each in values if isinstance(each, Sum)]
        return [self._uses.sum(node.op, values, 1 - max(ranks) if first and ranks else None)]

    def _read(self, _: Any, arguments: list[_Value]) -> list[_Value]:
        (handle,) = arguments
        if not isinstance(handle, Handle):
            return []
        return [self._uses.read(handle.variable)]

    def _moved(self, node: Any, arguments: list[_Value]) -> list[_Value]:
        """Return a variable or a sum with its dimensions moved, or the pieces it is cut into."""
        # "Split" alone has the axis first.
        value = arguments.pop(1 if node.op == "Split" else 0)
        if not isinstance(value, Read | Sum):
            return []
        count = node.attr["num_split"].i or node.attr["num"].i or 1
        numbers = [each.numbers for each in arguments if isinstance(each, Constant)]
        known = value.dimensions is not None and len(numbers) == len(arguments)
        if isinstance(value, Sum):
            return [self._moved_sum(node, value, numbers if known else None, index) for index in range(count)]
        sizes = self._uses.shapes[value.variable]
        pieces: list[_Value] = []
        for index in range(count):
            moved = operations.MOVES[node.op](node, value.dimensions, numbers, sizes, index) if known else None
            cut = ((node.op, tuple(numbers), operations.masks_of(node), index),) if node.op in operations.CUTS else ()
            pieces.append(Read(value.variable, moved, (*value.piece, *cut)))
        return pieces

    def _moved_sum(self, node: Any, value: Sum, numbers: list[Numbers] | None, index: int) -> _Value:
        if node.op == "Reshape":
            # The new shape is often computed from the batch, so no constant: what counts is the shape it has.
            shape = _shape_of(node)
            moved = None if shape is None else dimensions.reshaped_at_the_end(value.dimensions, shape, value.units)
        else:
            move = operations.MOVES[node.op]
            moved = None if numbers is None else move(node, value.dimensions, numbers, value.units, index)
        return whole(value, moved)

    def _spread(self, node: Any, arguments: list[_Value]) -> list[_Value]:
        value, shape = arguments[0], _shape_of(node)
        if not isinstance(value, Read | Sum) or value.dimensions is None or shape is None:
            self._uses.used(node.op, arguments)
            return []
        places = range(len(shape) - len(value.dimensions), len(shape))
        moved = dimensions.spread(value.dimensions, shape, places, isinstance(value, Read))
        return [whole(value, moved) if isinstance(value, Sum) else value._replace(dimensions=moved)]

    def _in_list(self, node: Any, arguments: list[_Value]) -> list[_Value]:
        """Return a sum from a list of tensors, or the list of it: its first dimension goes over the elements."""
        value = arguments[0]
        if not isinstance(value, Sum):
            self._uses.used(node.op, [value])  # of a variable the elements are pieces, a different one in each round
            return []
        more = (Dimension(dimensions.UNKNOWN, ()),)
        item = node.op == "TensorListGetItem"
        return [whole(value, value.dimensions[1:] if item else (*more, *value.dimensions))]


def _shape_of(node: Any) -> list[int] | None:
    """Return the shape of an operation's first output, ``None`` if its rank is not known."""
    shapes = node.attr["_output_shapes"].list.shape
    if not shapes or shapes[0].unknown_rank:
        return None
    return [dimension.size if dimension.size >= 0 else dimensions.UNKNOWN for dimension in shapes[0].dim]


def _look_up(values: Mapping[str, Sequence[_Value]], name: str) -> _Value:
    """Find a value by the name an input has: ``node``, ``node:index``, or ``node:output:index`` inside a function."""
    node, _, rest = name.partition(":")
    index = int(rest.rpartition(":")[2] or 0)
    outputs = values.get(node, ())
    return outputs[index] if index < len(outputs) else None


def _constant(node: Any) -> list[_Value]:
    tensor = node.attr["value"].tensor
    size = tf.TensorShape(tensor.tensor_shape).num_elements()
    if not tf.as_dtype(tensor.dtype).is_integer or size is None or size > _MOST_NUMBERS:
        return []
    return [Constant(tuple(int(number) for number in tf.make_ndarray(tensor).flat))]


# What becomes of each operation's arguments; any other makes something else of them.
_HANDLERS: dict[str, Callable[[_Interpreter, Any, list[_Value]], Sequence[_Value]]] = {
    "Const": lambda _, node, __: _constant(node),
    "Pack": _Interpreter._packed,
    "BroadcastTo": _Interpreter._spread,
    "ReadVariableOp": _Interpreter._read,
    "TensorListFromTensor": lambda _, __, values: values[:1],
    **dict.fromkeys(("TensorListGetItem", "TensorListStack"), _Interpreter._in_list),
    "IdentityN": lambda _, __, values: values,
    **dict.fromkeys(
        (
            "Identity",
            "Cast",
            "StopGradient",
            "PreventGradient",
            "CheckNumerics",
            "EnsureShape",
            "Snapshot",
            "SpaceToBatchND",
            "BatchToSpaceND",
        ),
        lambda _, __, values: values[:1],
    ),
    **dict.fromkeys(
        ("Shape", "ShapeN", "Size", "Rank", "VariableShape", "VarIsInitializedOp", "NoOp", "Assert"), lambda *_: []
    ),
    **dict.fromkeys(("PartitionedCall", "StatefulPartitionedCall"), _Interpreter._called),
    **dict.fromkeys(("If", "StatelessIf", "Case", "StatelessCase"), _Interpreter._branches),
    **dict.fromkeys(("While", "StatelessWhile"), _Interpreter._loop),
    **dict.fromkeys(("Add", "AddV2", "BiasAdd", "BiasAddV1", "AddN"), _Interpreter._sum),
    **dict.fromkeys(operations.PRODUCTS, _Interpreter._product),
    **dict.fromkeys(operations.MOVES, _Interpreter._moved),
}
