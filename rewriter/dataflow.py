"""What a traced graph does with variables: which are multiplied, and which are added to the product.

An abstract interpretation of a ``GraphDef``: in the place of each tensor goes a value that says only what matters here,
a variable (whole, or a piece of it, in whatever shape it is read), or a sum that products of variables flow into.
Called functions and both branches of a condition are entered with the values they are called with; the body of a loop
as often as it takes until what it carries round is the same.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf

from rewriter import dimensions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rewriter.dimensions import Dimensions, Numbers


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


class Factor(NamedTuple):
    """A variable in a product, and its axes that are left by the product, counted from the end: the outgoing ones."""

    variable: int
    outgoing: tuple[int, ...]


class Bias(NamedTuple):
    """A variable that is added to a product, its axes along which the units are, and which piece of it is added."""

    variable: int
    outgoing: tuple[int, ...]
    piece: tuple[Any, ...]


class Sum(NamedTuple):
    """What products of variables flow into.

    Attributes:
        waiting: Factors of products to which no variable was added yet.
        biases: Variables that were added to products.
    """

    waiting: frozenset[Factor]
    biases: frozenset[int] = frozenset()


# A tensor is one of these, or anything else.
_Value = Handle | Constant | Read | Sum | None


@dataclass
class Dataflow:
    """What a graph does with its variables.

    Attributes:
        products: The factors there are.
        added: For each bias, the factors it is added to, once for each different sum.
        joined: What flows into a sum that has one bias already, a factor or another bias, and that bias.
        otherwise: The operations that use a variable in any other way.
    """

    products: set[Factor] = field(default_factory=set)
    added: dict[Bias, set[frozenset[Factor]]] = field(default_factory=lambda: defaultdict(set))
    joined: set[tuple[Factor | Bias, int]] = field(default_factory=set)
    otherwise: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))


def dataflow(graph: Any, handles: Mapping[str, int], shapes: Mapping[int, tuple[int, ...]]) -> Dataflow:
    """Interpret a graph.

    Args:
        graph: A ``GraphDef``, with the functions it calls.
        handles: Which variable the resource of a placeholder is, by the name of its node.
        shapes: The shape of each variable.
    """
    interpreter = _Interpreter({function.signature.name: function for function in graph.library.function}, shapes)
    interpreter.run(graph.node, {name: [Handle(variable)] for name, variable in handles.items()})
    return interpreter.found


_ROUNDS = 8  # of a loop, at most: in each, something that is carried round must become anything
_MOST_NUMBERS = 64  # in a constant that says a shape


class _Interpreter:
    def __init__(self, functions: Mapping[str, Any], shapes: Mapping[int, tuple[int, ...]]) -> None:
        self.found = Dataflow()
        self._functions = functions
        self._shapes = shapes

    def run(self, nodes: Iterable[Any], values: dict[str, Sequence[_Value]]) -> None:
        """Interpret nodes in the order in which they were made; their values go beside those given, by name."""
        for node in nodes:
            if node.name not in values:
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
        branches = node.attr["branches"].list.func or [node.attr["then_branch"].func, node.attr["else_branch"].func]
        results = [self._call(branch.name, arguments[1:]) for branch in branches]
        return [values[0] if len(set(values)) == 1 else None for values in zip(*results, strict=True)]

    def _loop(self, node: Any, arguments: list[_Value]) -> list[_Value]:
        carried = arguments
        for _ in range(_ROUNDS):
            self._call(node.attr["cond"].func.name, carried)
            after = self._call(node.attr["body"].func.name, carried)
            same = [old if old == new else None for old, new in zip(carried, after, strict=True)]
            if same == carried:
                break
            carried = same
        return carried

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
        factors = [(place, value) for place, value in enumerate(arguments) if isinstance(value, Read)]
        if len(factors) == 1:
            place, read = factors[0]
            factor = self._factor(node, place, read)
            if factor is not None:
                self.found.products.add(factor)
                return [Sum(frozenset({factor}))]
        self._used(node.op, [read for _, read in factors])
        return []

    def _factor(self, node: Any, place: int, read: Read) -> Factor | None:
        """Say what is left of a variable by a product, ``None`` where that is no set of whole axes."""
        if read.dimensions is None:
            return None
        left = dimensions.PRODUCTS[node.op](node, place, len(read.dimensions))
        if left is None:
            return None
        rank = len(self._shapes[read.variable])
        summed = [each for index, each in enumerate(read.dimensions) if index not in left]
        outgoing = dimensions.axes_from_end([read.dimensions[index] for index in left], rank)
        if not outgoing or set(outgoing) & set(dimensions.axes_from_end(summed, rank)):
            return None
        return Factor(read.variable, outgoing)

    def _sum(self, node: Any, values: list[_Value]) -> list[_Value]:
        sums = [value for value in values if isinstance(value, Sum)]
        reads = [value for value in values if isinstance(value, Read)]
        if not sums:
            self._used(node.op, reads)
            return []
        waiting = frozenset[Factor]().union(*(each.waiting for each in sums))
        biases = frozenset[int]().union(*(each.biases for each in sums))
        for read in reads:
            if read.dimensions is None or (not waiting and len(biases) != 1):
                self._used(node.op, [read])
                continue
            sizes = self._shapes[read.variable]
            # A row that was cut out of several, and kept as a dimension, says nothing of units.
            units = [each for each in read.dimensions if each.size > 1 or all(sizes[axis] == 1 for axis in each.axes)]
            bias = Bias(read.variable, dimensions.axes_from_end(units, len(sizes)), read.piece)
            if waiting:
                self.found.added[bias].add(waiting)
                waiting, biases = frozenset(), biases | {read.variable}
            else:
                self.found.joined |= {(bias, other) for other in biases}
        if len(biases) == 1:
            self.found.joined |= {(factor, bias) for factor in waiting for bias in biases}
            waiting = frozenset()
        return [Sum(waiting, biases)]

    def _moved(self, node: Any, arguments: list[_Value]) -> list[_Value]:
        """Say what becomes of a variable or a sum whose dimensions are moved, or which is cut in pieces."""
        value = arguments.pop(1 if node.op == "Split" else 0)
        count = node.attr["num_split"].i or node.attr["num"].i or 1
        if not isinstance(value, Read):
            return [value if isinstance(value, Sum) else None] * count
        numbers = [each.numbers for each in arguments if isinstance(each, Constant)]
        known = value.dimensions is not None and len(numbers) == len(arguments)
        sizes = self._shapes[value.variable]
        pieces: list[_Value] = []
        for index in range(count):
            moved = dimensions.MOVES[node.op](node, value.dimensions, numbers, sizes, index) if known else None
            cut = ((node.op, tuple(numbers), dimensions.masks_of(node), index),) if node.op in dimensions.CUTS else ()
            pieces.append(Read(value.variable, moved, (*value.piece, *cut)))
        return pieces


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
            "TensorListFromTensor",
            "TensorListGetItem",
            "TensorListStack",
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
