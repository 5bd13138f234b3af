"""Whether a merged layer can be trained in centered coordinates: for that it must be known what its kernel reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.core.messages import Sentence

from ..adapters import keras

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rewriter.core.layout import Layout
    from rewriter.core.messages import Message

    from .decisions import Decision


class Centering(Sentence):
    """What a centered optimizer makes of a merged layer."""

    CENTERED = "centered"
    INPUT_UNKNOWN = "uncentered: input unknown"
    READS_ITSELF = "uncentered: the kernel reads what the layer makes of its input"
    LEFT_OUT = "uncentered: left out by include= or exclude= of Centered"
    ONE_OF_SEVERAL = "uncentered: one of several cells in a loop, in which nothing is recorded"


def centering_of(layer: Any, owners: Sequence[Any], layout: Layout) -> Message:
    """Tell whether a layer can be centered, and why not.

    Args:
        layer: The layer, merged or not.
        owners: The layers that hold it.
        layout: How its weights are or will be stacked.
    """
    if layout.flow is None:
        within = isinstance(layer, keras.layer_classes("SeparableConv1D", "SeparableConv2D"))
        return Centering.READS_ITSELF() if within else Centering.INPUT_UNKNOWN()
    if layout.flow.states and not any(getattr(owner, "cell", None) is layer for owner in owners):
        return Centering.ONE_OF_SEVERAL()
    return Centering.CENTERED()


def summary_of_centering(decisions: Iterable[Decision]) -> str:
    """Return one line: how many of the layers that are or will be merged, and are trained, are centered; which not."""
    merged = [each for each in decisions if each.centering is not None]
    trained = [each for each in merged if each.trainable]
    why_not: dict[Message, list[str]] = {}
    for each in trained:
        if each.centering is not None and each.centering.kind is not Centering.CENTERED:
            why_not.setdefault(each.centering, []).append(each.path)
    centered = len(trained) - sum(map(len, why_not.values()))
    reasons = "".join(f"; {why} ({', '.join(paths)})" for why, paths in why_not.items())
    frozen = f"; {len(merged) - len(trained)} more frozen" if len(merged) > len(trained) else ""
    return f"centered: {centered} of {len(trained)} merged{frozen}{reasons}"
