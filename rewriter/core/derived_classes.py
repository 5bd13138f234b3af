"""Classes derived from users' classes, which live as long as objects have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

_MADE = "_derived_by_rewriter"


class Mixin:
    """Base of the mixins that go before a user's class. It keeps the class's ``__init_subclass__`` from being called.

    It may register each subclass, or want arguments.
    """

    def __init_subclass__(cls) -> None:
        pass


def derived_class(
    mixin: type, base: type, key: Hashable = None, body: Callable[[], dict[str, Any]] | None = None
) -> type:
    """Return the class that puts a mixin before a base, which it makes if there is none yet.

    Python knows the subclasses of a class as long as they are used, so nothing is kept here: a cache would keep the
    classes of users alive, and what their methods close over.

    Args:
        mixin: What the class adds.
        base: The class of somebody else; the class shows its name.
        key: What tells apart the classes of one mixin and base.
        body: Makes further attributes of the class, where it is not there yet.
    """
    made_for = (mixin, base, key)
    each: type
    for each in base.__subclasses__():
        if vars(each).get(_MADE) == made_for:
            return each
    own = {} if body is None else body()
    shown = {name: getattr(base, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(base)(base.__name__, (mixin, base), {**shown, **own, _MADE: made_for})


def original_class(cls: type) -> type:
    """Return the class of somebody else that a class was derived from, with whatever mixins; other classes as are."""
    while made_for := vars(cls).get(_MADE):
        cls = made_for[1]
    return cls


def without(cls: type, mixin: type) -> type:
    """Return a class as :func:`derived_class` would have made it without one of its mixins; other classes as they are.

    Only for mixins of which there is one class for each base, without a key.
    """
    made_for = vars(cls).get(_MADE)
    if made_for is None:
        return cls
    by, base, key = made_for
    return base if by is mixin else derived_class(by, without(base, mixin), key)


def base_of(cls: type, mixin: type) -> type | None:
    """Return the base that :func:`derived_class` derived a class from with this mixin, ``None`` for other classes."""
    for each in cls.__mro__:
        made_by, base, _ = vars(each).get(_MADE, (None, None, None))
        if made_by is mixin:
            found: type = base
            return found
    return None
