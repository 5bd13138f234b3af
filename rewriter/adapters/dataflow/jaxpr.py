"""What a jaxpr, the form into which JAX traces, does with variables: its equations, one after the other.

Functions inside it are entered at each call, a condition in all branches, and the body of a loop until its values no
longer change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from .dimensions import Dimension, cut, reshaped, reshaped_at_the_end, resized, spread, squeezed, transposed, turned
from .uses import Read, Sum, Uses, Value, either, until_the_same, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..records import Dataflow
    from .dimensions import Dimensions, Left


def interpret(jaxpr: ClosedJaxpr, shapes: Mapping[int, tuple[int, ...]]) -> Dataflow:
    """Interpret a jaxpr.

    Args:
        jaxpr: The jaxpr; its first arguments are the variables, in the order of their numbers.
        shapes: The shape of each variable.
    """
    interpreter = _Interpreter(shapes)
    variables: list[Value] = [interpreter.uses.read(number) for number in sorted(shapes)]
    interpreter.run(jaxpr, [*variables, *[None] * (len(jaxpr.jaxpr.invars) - len(variables))])
    return interpreter.uses.found


class _Interpreter:
    def __init__(self, shapes: Mapping[int, tuple[int, ...]]) -> None:
        self.uses = Uses(shapes)

    def run(self, jaxpr: Any, arguments: Sequence[Value]) -> list[Value]:
        """Interpret a jaxpr, closed or open; returns the values of its results."""
        inner: Jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
        values: dict[Any, Value] = dict(zip(inner.invars, arguments, strict=True))

        def of(atom: Any) -> Value:
            return None if isinstance(atom, Literal) else values.get(atom)

        for equation in inner.eqns:
            results = self._results(equation, [of(atom) for atom in equation.invars])
            values.update(zip(equation.outvars, results, strict=False))
        return [of(atom) for atom in inner.outvars]

    def _results(self, equation: Any, arguments: list[Value]) -> Sequence[Value]:
        name = equation.primitive.name
        handler = _HANDLERS.get(name)
        if handler is not None:
            return handler(self, equation, arguments)
        called = next((each for each in equation.params.values() if isinstance(each, ClosedJaxpr | Jaxpr)), None)
        if called is not None and len(getattr(called, "jaxpr", called).invars) == len(arguments):
            return self.run(called, arguments)
        # A primitive that is not in the table ends the interpretation here: the variable is used "otherwise".
        self.uses.used(name, arguments)
        return []

    def _branches(self, equation: Any, arguments: list[Value]) -> list[Value]:
        results = [self.run(branch, arguments[1:]) for branch in equation.params["branches"]]
        return [either(values) for values in zip(*results, strict=True)]

    def _loop(self, equation: Any, arguments: list[Value]) -> list[Value]:
        of_condition, of_body = equation.params["cond_nconsts"], equation.params["body_nconsts"]
        condition, body = arguments[:of_condition], arguments[of_condition : of_condition + of_body]

        def step(carried: list[Value]) -> list[Value]:
            self.run(equation.params["cond_jaxpr"], [*condition, *carried])
            return self.run(equation.params["body_jaxpr"], [*body, *carried])

        return until_the_same(step, arguments[of_condition + of_body :])

    def _scan(self, equation: Any, arguments: list[Value]) -> list[Value]:
        constants, carried = equation.params["num_consts"], equation.params["num_carry"]
        scanned = arguments[constants + carried :]
        self.uses.used("scan", scanned)
        # What is scanned, and what is stacked of it, has one dimension more than it has inside.
        inside = [whole(each, each.dimensions[1:]) if isinstance(each, Sum) else None for each in scanned]
        stacked: list[Value] = []

        def step(values: list[Value]) -> list[Value]:
            results = self.run(equation.params["jaxpr"], [*arguments[:constants], *values, *inside])
            stacked[:] = results[carried:]
            return results[:carried]

        after = until_the_same(step, arguments[constants : constants + carried])
        first = Dimension(equation.params["length"], ())
        return after + [whole(each, (first, *each.dimensions)) if isinstance(each, Sum) else None for each in stacked]

    def _product(self, equation: Any, arguments: list[Value]) -> list[Value]:
        left = _LEFT[equation.primitive.name](equation)
        return [self.uses.product(equation.primitive.name, arguments, left, equation.outvars[0].aval.shape)]

    def _sum(self, equation: Any, arguments: list[Value]) -> list[Value]:
        return [self.uses.sum(equation.primitive.name, arguments)]

    def _moved(self, equation: Any, arguments: list[Value]) -> list[Value]:
        """Return a variable or a sum with its dimensions moved, or the pieces it is cut into."""
        value, name = arguments[0], equation.primitive.name
        self.uses.used(name, arguments[1:])
        if value is None:
            return []
        results: list[Value] = []
        sizes = value.units if isinstance(value, Sum) else self.uses.shapes[value.variable]
        for index in range(len(equation.outvars)):
            moved = None if value.dimensions is None else _MOVES[name](equation.params, value, sizes, index)
            if isinstance(value, Sum):
                results.append(whole(value, moved))
            else:
                piece = ((name, str(equation.params), index),) if name in _CUTS else ()
                results.append(Read(value.variable, moved, (*value.piece, *piece)))
        return results


def _left_by_dot(equation: Any) -> Callable[[int, int], Left | None]:
    """Make the rule for a product: what it leaves comes in the order batch, first factor, second factor."""
    contracted, batch = equation.params["dimension_numbers"]
    result = len(equation.outvars[0].aval.shape)

    def left(place: int, rank: int) -> Left:
        gone = {*contracted[place], *batch[place]}
        free = [index for index in range(rank) if index not in gone]
        start = len(batch[place]) if place == 0 else result - len(free)
        of_batch = [(index, at - result) for at, index in enumerate(batch[place])]
        return of_batch + [(index, start + at - result) for at, index in enumerate(free)]

    return left


def _left_by_convolution(equation: Any) -> Callable[[int, int], Left | None]:
    """Make the rule for a convolution: it leaves the output channels of its filter, the second factor."""
    numbers, result = equation.params["dimension_numbers"], len(equation.outvars[0].aval.shape)

    def left(place: int, rank: int) -> Left | None:
        del rank
        return [(numbers.rhs_spec[0], numbers.out_spec[1] - result)] if place == 1 else None

    return left


_LEFT = {"dot_general": _left_by_dot, "conv_general_dilated": _left_by_convolution}


def _broadcast(parameters: Any, value: Any, _: Sequence[int], __: int) -> Dimensions | None:
    return spread(value.dimensions, parameters["shape"], parameters["broadcast_dimensions"], isinstance(value, Read))


def _reshape(parameters: Any, value: Any, sizes: Sequence[int], _: int) -> Dimensions | None:
    follow = reshaped_at_the_end if isinstance(value, Sum) else reshaped
    return follow(value.dimensions, parameters["new_sizes"], sizes)


def _slice(parameters: Any, value: Any, _: Sequence[int], __: int) -> Dimensions | None:
    if any(stride != 1 for stride in parameters["strides"] or ()):
        return None
    cuts = zip(value.dimensions, parameters["start_indices"], parameters["limit_indices"], strict=True)
    return tuple(cut(each, start, limit - start) if each.axes else each for each, start, limit in cuts)


def _split(parameters: Any, value: Any, _: Sequence[int], index: int) -> Dimensions | None:
    sizes, axis = parameters["sizes"], parameters["axis"]
    return resized(value.dimensions, axis, sum(sizes[:index]), sizes[index])


_CUTS = frozenset({"slice", "split"})
# For each primitive that moves dimensions or cuts, what becomes of them: of its parameters, the value, the sizes of the
# axes, and which of its results.
_MOVES: dict[str, Callable[[Any, Any, Sequence[int], int], Dimensions | None]] = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "transpose": lambda parameters, value, *_: transposed(value.dimensions, parameters["permutation"]),
    "rev": lambda parameters, value, *_: turned(value.dimensions, parameters["dimensions"]),
    "squeeze": lambda parameters, value, *_: squeezed(value.dimensions, parameters["dimensions"]),
    "slice": _slice,
    "split": _split,
}

# What becomes of each primitive's arguments; any other makes something else of them.
_HANDLERS: dict[str, Callable[[_Interpreter, Any, list[Value]], Sequence[Value]]] = {
    "cond": _Interpreter._branches,
    "while": _Interpreter._loop,
    "scan": _Interpreter._scan,
    **dict.fromkeys(("add", "add_any"), _Interpreter._sum),
    **dict.fromkeys(_LEFT, _Interpreter._product),
    **dict.fromkeys(_MOVES, _Interpreter._moved),
    **dict.fromkeys(
        ("convert_element_type", "copy", "copy_p", "stop_gradient", "reduce_precision", "sharding_constraint", "name"),
        lambda _, __, values: values[:1],
    ),
    "optimization_barrier": lambda _, __, values: values,
}
