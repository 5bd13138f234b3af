"""What a traced graph does with variables: which are multiplied, and which are added to the product.

This is an abstract interpretation of a ``GraphDef``. Each tensor is replaced by a value that says only what matters
here: a variable (whole, or a piece of it, in any shape), or a sum into which products of variables flow. Functions are
entered at each call, a condition in both branches, and the body of a loop until its values no longer change.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf

from ...records import Bias, Dataflow, Factor
from . import dimensions
from .dimensions import Dimension

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .dimensions import Dimensions, Numbers


class Handle(NamedTuple):
    """The resource of a variable, by a number of the caller's."""

    variable: int


class Constant(NamedTuple):
    """Whole numbers, which say a shape, a permutation or an axis."""

    numbers: Numbers


class Read(NamedTuple):
    """A variable, or a piece of it, read in some shape.

    Attributes:
        variable: Which.
        dimensions: Those of the tensor; ``None`` where it is not known how they come from the variable's axes.
        piece: How it was cut out of the variable, to tell pieces from each other.
    """

    variable: int
    dimensions: Dimensions | None
    piece: tuple[Any, ...] = ()


class Sum(NamedTuple):
    """What products of variables flow into.

    Attributes:
        waiting: Factors of products to which no variable was added yet.
        biases: Variables that were added to products.
        units: How many units there are, along each outgoing axis of the factors.
        dimensions: Those of the tensor; their axes are the places in ``units``.
    """

    waiting: frozenset[Factor]
    biases: frozenset[int]
    units: tuple[int, ...]
    dimensions: Dimensions

    @property
    def places(self) -> dict[int, Dimension]:
        """Where the units are: the dimensions that have some, by their places counted from the end."""
        rank = len(self.dimensions)
        return {index - rank: each for index, each in enumerate(self.dimensions) if each.axes}


# A tensor is one of these. None is anything else: whatever is uncertain becomes None, so that a pair may be missed but
# is never made up.
_Value = Handle | Constant | Read | Sum | None


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


# Each round of a loop turns at least one of its values into None, so few rounds are needed; this bounds odd graphs.
_ROUNDS = 8
# A constant that says a shape, a permutation or an axis is short. Longer ones are data.
_MOST_NUMBERS = 64


class _Interpreter:
    def __init__(self, functions: Mapping[str, Any], shapes: Mapping[int, tuple[int, ...]]) -> None:
        self.found = Dataflow()
        self._functions = functions
        self._shapes = shapes

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
        self._used(node.op, arguments)
        return []

    def _called(self, node: Any, arguments: list[_Value]) -> list[_Value]:
        return self._call(node.attr["f"].func.name, arguments)

    def _packed(self, node: Any, values: list[_Value]) -> list[_Value]:
        numbers = [value.numbers for value in values if isinstance(value, Constant)]
        if len(numbers) == len(values):
            return [Constant(tuple(itertools.chain(*numbers)))]
        self._used(node.op, values)
        return []

    def _branches(self, node: Any, arguments: list[_Value]) -> list[_Value]:
        # The first argument is the condition. "Case" has a list of branches, "If" has two.
        branches = node.attr["branches"].list.func or [node.attr["then_branch"].func, node.attr["else_branch"].func]
        results = [self._call(branch.name, arguments[1:]) for branch in branches]
        return [_either(values) for values in zip(*results, strict=True)]

    def _loop(self, node: Any, arguments: list[_Value]) -> list[_Value]:
        # What the body returns is its argument in the next round. A value that differs becomes None, and the body is
        # entered again with that, as it may now use a variable in another way.
        values = arguments
        for _ in range(_ROUNDS):
            self._call(node.attr["cond"].func.name, values)
            after = self._call(node.attr["body"].func.name, values)
            same = [old if old == new else None for old, new in zip(values, after, strict=True)]
            if same == values:
                break
            values = same
        return values

    def _used(self, operation: str, values: Iterable[_Value]) -> None:
        for value in values:
            if isinstance(value, Read | Handle):
                self.found.otherwise[value.variable].add(operation)

    def _read(self, _: Any, arguments: list[_Value]) -> list[_Value]:
        (handle,) = arguments
        if not isinstance(handle, Handle):
            return []
        return [Read(handle.variable, dimensions.of_variable(self._shapes[handle.variable]))]

    def _product(self, node: Any, arguments: list[_Value]) -> list[_Value]:
        # A product of two variables has no units that one bias could belong to.
        factors = [(place, value) for place, value in enumerate(arguments) if isinstance(value, Read)]
        if len(factors) == 1:
            place, read = factors[0]
            product = self._one_factor(node, place, read)
            if product is not None:
                self.found.products |= product.waiting
                return [product]
        self._used(node.op, [read for _, read in factors])
        return []

    def _one_factor(self, node: Any, place: int, read: Read) -> Sum | None:
        """Return the product of a variable and something else, ``None`` where it leaves no whole set of axes."""
        result = _shape_of(node)
        left = dimensions.PRODUCTS[node.op](node, place, len(read.dimensions)) if read.dimensions is not None else None
        if not left or read.dimensions is None or result is None:
            return None
        sizes = self._shapes[read.variable]
        kept = {index for index, _ in left}
        summed = [each for index, each in enumerate(read.dimensions) if index not in kept]
        outgoing = dimensions.axes_from_end([read.dimensions[index] for index, _ in left], len(sizes))
        # An axis that is summed in part, and left in part, is neither incoming nor outgoing.
        if not outgoing or set(outgoing) & set(dimensions.axes_from_end(summed, len(sizes))):
            return None
        units, placed = [], [Dimension(size, ()) for size in result]
        for index, at in left:
            part, before = read.dimensions[index], placed[at]
            if before.axes and (part.start or before.start):
                return None  # two axes in one dimension, cut: the units are no product of whole axes
            units.append(math.prod(sizes[axis] for axis in part.axes))
            size = before.size * part.size if before.axes else part.size
            placed[at] = Dimension(size, (*before.axes, len(units) - 1), part.start)
        factor = Factor(read.variable, outgoing)
        return Sum(frozenset({factor}), frozenset(), tuple(units), tuple(placed))

    def _sum(self, node: Any, values: list[_Value]) -> list[_Value]:
        sums = [value for value in values if isinstance(value, Sum)]
        reads = [value for value in values if isinstance(value, Read)]
        # Sums whose units are in other places are added by broadcasting: no number belongs to one unit then.
        if not sums or any((each.units, each.places) != (sums[0].units, sums[0].places) for each in sums):
            self._used(node.op, reads)
            return []
        waiting = frozenset[Factor]().union(*(each.waiting for each in sums))
        biases = frozenset[int]().union(*(each.biases for each in sums))
        longest = max(sums, key=lambda each: len(each.dimensions))
        for read in reads:
            outgoing = self._units_of(read, longest, node)
            if outgoing is None or (not waiting and len(biases) != 1):
                self._used(node.op, [read])
                continue
            bias = Bias(read.variable, outgoing, read.piece)
            if waiting:
                # The first variable that is added is the bias of every product that waits for one.
                self.found.added[bias].add(waiting)
                waiting, biases = frozenset(), biases | {read.variable}
            else:
                self.found.joined |= {(bias, other) for other in biases}
        if len(biases) == 1:
            self.found.joined |= {(factor, bias) for factor in waiting for bias in biases}
            waiting = frozenset()
        return [longest._replace(waiting=waiting, biases=biases)]

    def _units_of(self, read: Read, to: Sum, node: Any) -> tuple[int, ...] | None:
        """List the axes of a variable along the units of a sum, ``None`` where it is not one number for each unit."""
        if read.dimensions is None:
            return None
        rank, sizes = len(to.dimensions), self._shapes[read.variable]
        # "NCHW": BiasAdd adds along the first dimension after the batch, and not along the last.
        at = 1 - rank if node.attr["data_format"].s.startswith(b"NC") else -len(read.dimensions)
        given = {at + index: each for index, each in enumerate(read.dimensions)}
        places = to.places
        if any(each.size > 1 for place, each in given.items() if place not in places):
            return None
        axes: dict[int, list[int]] = {}
        for place, wanted in places.items():
            there = given.get(place)
            if there is None or (there.size, there.start) != (wanted.size, wanted.start):
                return None
            if math.prod(sizes[axis] for axis in there.axes) != math.prod(to.units[unit] for unit in wanted.axes):
                return None
            axes[wanted.axes[0]] = [axis - len(sizes) for axis in there.axes]
        return tuple(axis for unit in sorted(axes) for axis in axes[unit])

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
        sizes = self._shapes[value.variable]
        pieces: list[_Value] = []
        for index in range(count):
            moved = dimensions.MOVES[node.op](node, value.dimensions, numbers, sizes, index) if known else None
            cut = ((node.op, tuple(numbers), dimensions.masks_of(node), index),) if node.op in dimensions.CUTS else ()
            pieces.append(Read(value.variable, moved, (*value.piece, *cut)))
        return pieces

    def _moved_sum(self, node: Any, value: Sum, numbers: list[Numbers] | None, index: int) -> _Value:
        if node.op == "Reshape":
            # The new shape is often computed from the batch, so no constant: what counts is the shape it has.
            shape = _shape_of(node)
            moved = None if shape is None else dimensions.reshaped_at_the_end(value.dimensions, shape, value.units)
        else:
            move = dimensions.MOVES[node.op]
            moved = None if numbers is None else move(node, value.dimensions, numbers, value.units, index)
        return _whole(value, moved)

    def _in_list(self, node: Any, arguments: list[_Value]) -> list[_Value]:
        """Return a sum from a list of tensors, or the list of it: its first dimension goes over the elements."""
        value = arguments[0]
        if not isinstance(value, Sum):
            return [value]
        more = (Dimension(dimensions.UNKNOWN, ()),)
        item = node.op == "TensorListGetItem"
        return [_whole(value, value.dimensions[1:] if item else (*more, *value.dimensions))]


def _either(values: Sequence[_Value]) -> _Value:
    """Return the result of a condition: where its branches give like sums, one with the factors of all."""
    waiting = frozenset[Factor]().union(*(value.waiting for value in values if isinstance(value, Sum)))
    alike = {value._replace(waiting=waiting) if isinstance(value, Sum) else value for value in values}
    return alike.pop() if len(alike) == 1 else None


def _whole(value: Sum, moved: Dimensions | None) -> _Value:
    """Give a sum other dimensions; ``None`` where not all of its units are along them."""
    if moved is None or sorted(axis for each in moved for axis in each.axes) != list(range(len(value.units))):
        return None
    return value._replace(dimensions=moved)


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
    **dict.fromkeys(dimensions.PRODUCTS, _Interpreter._product),
    **dict.fromkeys(dimensions.MOVES, _Interpreter._moved),
}
