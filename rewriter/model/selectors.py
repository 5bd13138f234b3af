"""Which layers the user wants rewritten: shell globs on the layer's path, or callables on the layer."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rewriter.core import hints
from rewriter.core.errors import SelectorError
from rewriter.core.suggestions import closest, did_you_mean

from ..adapters import keras

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .walk import LocatedLayer

Selector = str | Callable[[Any], bool]
Selectors = Selector | Iterable[Selector] | None


@dataclass(frozen=True)
class Selection:
    """What a user's selectors chose.

    Attributes:
        chosen: The ``id`` of each chosen layer.
        excluded: The ``id`` of each layer that ``exclude`` matched.
        matched: How many layers each selector matched, by the selector as text.
    """

    chosen: frozenset[int]
    excluded: frozenset[int]
    matched: dict[str, int]


def select(candidates: Sequence[LocatedLayer], include: Selectors, exclude: Selectors) -> Selection:
    """Choose among layers: those that any of ``include`` matches (all, if ``None``) and none of ``exclude`` does.

    Args:
        candidates: The layers to choose from.
        include: One selector or several; ``None`` for every layer.
        exclude: One selector or several; ``None`` for none.

    Raises:
        SelectorError: A selector matches no candidate, or is neither a string nor callable.
    """
    included = _matched(candidates, include, "include")
    left_out = _matched(candidates, exclude, "exclude")
    chosen = {id(located.layer) for located in candidates} if include is None else set().union(*included.values())
    excluded = frozenset().union(*left_out.values())
    matched = {selector: len(hits) for selector, hits in {**included, **left_out}.items()}
    return Selection(frozenset(chosen - excluded), excluded, matched)


def several(selectors: Selectors) -> list[Selector]:
    """List selectors, given as one, as several or as ``None``."""
    if selectors is None:
        return []
    return list(selectors) if isinstance(selectors, Iterable) and not isinstance(selectors, str) else [selectors]


def _matched(candidates: Sequence[LocatedLayer], selectors: Selectors, option: str) -> dict[str, set[int]]:
    """Find the layers that each selector of an option matches."""
    if selectors is None:
        return {}
    matched = {}
    for selector in several(selectors):
        hits = {id(located.layer) for located in candidates if _matches(selector, located, option)}
        if not hits:
            raise SelectorError(_no_match(candidates, selector, option))
        text = repr(selector) if isinstance(selector, str) else getattr(selector, "__name__", repr(selector))
        matched[f"{option}={text}"] = hits
    return matched


def _matches(selector: Selector, located: LocatedLayer, option: str) -> bool:
    if isinstance(selector, str):
        return any(fnmatch.fnmatchcase(path, selector) for path in located.paths)
    takes = f"{option} takes shell globs on the layer's path, or callables on the layer, got"
    if isinstance(selector, type):
        raise SelectorError(
            f"{takes} the class {selector.__name__}; give lambda layer: isinstance(layer, {selector.__name__})."
        )
    if isinstance(selector, keras.Layer):
        raise SelectorError(f"{takes} the layer {selector.name} itself; give its path.")
    if callable(selector):
        return bool(selector(located.layer))
    raise SelectorError(f"{takes} {selector!r} of type {type(selector).__name__}.")


def _no_match(candidates: Sequence[LocatedLayer], selector: Selector, option: str) -> str:
    paths = [path for located in candidates for path in located.paths]
    near = []
    if isinstance(selector, str):
        # A recurrent layer's kernels are its cell's.
        inside = [path for path in paths if path.startswith(f"{selector}/")]
        named = [path for path in paths if path.endswith(f"/{selector}")]
        near = (inside or named)[:3] or closest(selector, paths, count=3, cutoff=0.5)
        kinds = {cls.__name__ for located in candidates for cls in type(located.layer).__mro__}
        if selector in kinds:
            return (
                f"{hints.Argument(option, selector)} matches no layer: it is matched with paths, and {selector} is a "
                f"class. Give {hints.selectors_of(selector)}: `{hints.ALL_PATHS}` lists all."
            )
    hint = did_you_mean(near)
    if not hint:
        hint = f" The first are {', '.join(map(repr, paths[:5]))}." if paths else " The model has no such layer."
    given = hints.Argument(option, selector)
    return f"{given} matches no layer that owns a kernel.{hint} `{hints.ALL_PATHS}` lists all paths."
