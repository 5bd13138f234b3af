"""Options that take a number. The error for a wrong one repeats what was given."""

from __future__ import annotations

import math
from typing import Any

import typer


def _number_of(kind: type[int | float], least: int, most: int | None) -> Any:
    """Return a parser of numbers for Typer."""
    expected = f"a {'whole ' if kind is int else ''}number "
    expected += f"of {least} or more" if most is None else f"from {least} to {most}"

    def read(given: str) -> int | float:
        try:
            number = kind(given)
        except ValueError:
            raise typer.BadParameter(f"{given!r} is not {expected}.") from None
        if not (math.isfinite(number) and least <= number and (most is None or number <= most)):
            raise typer.BadParameter(f"{given!r} is not {expected}.")
        return number

    return read


def whole(name: str, *, least: int, does: str) -> Any:
    """Make an option that takes a whole number."""
    return typer.Option(name, metavar="NUMBER", parser=_number_of(int, least, None), help=does)


def real(name: str, *, least: int, most: int | None = None, does: str) -> Any:
    """Make an option that takes a number, whole or not."""
    return typer.Option(name, metavar="NUMBER", parser=_number_of(float, least, most), help=does)
