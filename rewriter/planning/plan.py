"""The plan: what the pass does to each layer and why, as data.

``rewrite`` applies this same object, so what ``--dry-run`` shows cannot differ from what the run does.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from rewriter.core import hints, tables
from rewriter.core.errors import ModelError, NotMergeableError
from rewriter.core.log import warn

from . import plan_rows, plan_tree
from .reasons import Skip
from .renamed_variables import Renamed, summary_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rewriter.core.layout import Layout
    from rewriter.core.messages import Message
    from rewriter.core.tables import Parts

    from .decisions import Decision, Place
    from .pair_discovery import Remark


@dataclass(frozen=True, repr=False)
class Plan(tables.Display):
    """One decision for every kernel, in the order of the model's layers. ``str(plan)`` has a row for alike ones.

    Attributes:
        model: The model's name.
        layers: Every layer of the model, each once; first the model itself.
        decisions: The decisions.
        selectors: How many layers each selector matched, by the selector as text.
        remarks: What in the model an optimizer of whole layers would not expect, if it was asked to look.
        settings: What :func:`rewriter.plan` was asked for.
    """

    model: str
    layers: tuple[Place, ...]
    decisions: tuple[Decision, ...]
    selectors: dict[str, int] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __repr__(self) -> str:
        return f"<Plan of {self.summary()}; print it to see each layer>"

    @property
    def merges(self) -> tuple[Decision, ...]:
        """The decisions to merge; each has a layout."""
        return tuple(decision for decision in self.decisions if decision.action == "merge")

    @property
    def merged(self) -> tuple[Decision, ...]:
        """The decisions about layers that are merged already."""
        return tuple(decision for decision in self.decisions if decision.is_merged)

    @property
    def left_out(self) -> tuple[str, ...]:
        """The paths of the layers that are trained, own a kernel, and are neither merged nor to merge."""
        left = [each for each in self.decisions if each.action == "skip" and not each.is_merged and each.trainable]
        return tuple(dict.fromkeys(each.path for each in left))

    def layers_to_merge(self) -> Iterator[tuple[str, Any, tuple[Layout, ...]]]:
        """Yield each layer to merge: its path, itself, and the layouts of its augmented kernels."""
        for layer, decisions in itertools.groupby(self.merges, key=lambda decision: decision.target):
            several = list(decisions)
            yield several[0].path, layer, tuple(each.layout for each in several if each.layout is not None)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON data.

        The keys are ``model``; the counts ``merge``, ``skip`` and ``already_merged``; ``selectors``, how many layers
        each matched; ``names``, for each merge the variable names that go away, ``old``, and the one that comes,
        ``new``; ``remarks``, each with ``place`` and ``text``; ``layers``, each with ``path`` (``""`` for the
        model itself), ``layer``, its class, and ``parameters``, those of its own; and ``decisions``.
        """
        return {
            "model": self.model,
            "merge": len(self.merges),
            "skip": len(self.decisions) - len(self.merges) - len(self.merged),
            "already_merged": len(self.merged),
            "selectors": self.selectors,
            "names": [renamed.to_dict() for renamed in self.renamed],
            "remarks": [remark.to_dict() for remark in self.remarks],
            "layers": [place.to_dict() for place in self.layers],
            "decisions": [decision.to_dict() for decision in self.decisions],
        }

    @property
    def renamed(self) -> tuple[Renamed, ...]:
        """The variable names that disappear, each with the new name."""
        return tuple(Renamed.by(each.layout) for each in self.merges if each.layout is not None)

    @property
    def is_carried_out(self) -> bool:
        """Whether something is merged, and nothing is left to merge."""
        return bool(self.merged) and not self.merges

    def require_all_merged(self) -> None:
        """Raise ``NotMergeableError`` if a selected pair cannot be merged or there is none, or for remarks."""
        blocked = [f"  {each.path} ({each.layer}): {each.reason}" for each in self.decisions if each.blocked]
        paragraphs = []
        if blocked:
            paragraphs += [f"{len(blocked)} selected layers of {self.model} cannot be merged:", *blocked]
            paragraphs += [f"Leave them out with {hints.EXCLUDE}, or drop {hints.STRICT}."]
        if self.remarks:
            paragraphs += [f"{self.model} does not match what an optimizer of whole layers expects:"]
            paragraphs += [
                *(f"  {remark}" for remark in self.remarks),
                f"Leave layers out with {hints.EXCLUDE}, or drop {hints.STRICT} or {hints.DISCOVER} and go on.",
            ]
        if paragraphs:
            raise NotMergeableError("\n".join(["strict: " + paragraphs[0], *paragraphs[1:]]))
        if not self.merges and not self.merged:
            raise NotMergeableError(
                f"strict: {self.model} has nothing to merge, no selected layer has a kernel and a bias."
            )

    def require_same(self, now: Plan) -> None:
        """Raise ``ModelError`` unless a plan that was made now is the same.

        Args:
            now: A plan of the model as it is, with the same settings.
        """
        for mine, other in itertools.zip_longest(self.decisions, now.decisions):
            if mine is None or other is None or mine != other or mine.target is not other.target:
                then, here = (f"{each.action}, {each.reason}" if each else "nothing" for each in (mine, other))
                here = "the same of another layer" if then == here else here
                raise ModelError(
                    f"{(mine or other).path}: the plan that is given says {then}; one of {now.model} as it is now says "
                    f"{here}. It is the plan of another model, or the model has changed: make it again."
                )

    def require_built(self) -> None:
        """Raise ``ModelError`` if no layer is built; warn if only some layers are."""
        unbuilt = [decision.path for decision in self.decisions if decision.why.kind is Skip.NOT_BUILT]
        if unbuilt and not self.merges and not self.merged:
            raise ModelError(
                f"{self.model} is not built: {', '.join(unbuilt)}. Call it on a batch, or model.build(input_shape), "
                "so that its layers have weights to merge."
            )
        if unbuilt:
            again = "then rewrite the model again."
            warn(f"{self.model} is rewritten in part. {', '.join(unbuilt)}: {Skip.NOT_BUILT()}, {again}")

    def without(self, path: str, why: Message) -> Plan:
        """Leave out the discovered pairs at a path; all discovered pairs if there are none at that path.

        Returns:
            The plan without them; the same plan if nothing was found.
        """
        there = [each for each in self.merges if each.found and each.path == path]
        left_out = there or [each for each in self.merges if each.found]
        decisions = tuple(
            replace(each, action="skip", why=why, augmented_shape=None, centering=None, layout=None)
            if each in left_out
            else each
            for each in self.decisions
        )
        return replace(self, decisions=decisions) if left_out else self

    def summary(self, done: bool = False) -> str:
        """Return one line: of how many layers that own a kernel how many can be merged, or are.

        Args:
            done: Whether what was to merge has been merged.
        """
        owners, merged, to_merge = ({each.path for each in of} for of in (self.decisions, self.merged, self.merges))
        of_all = f"of {tables.counted(len(owners), 'layer')} with a kernel"
        if done or (merged and not to_merge):
            answer = f"{len(merged | to_merge)} {of_all} merged"
        else:
            already = f", {len(merged)} already are" if merged else ""
            answer = f"{len(to_merge) or 'none'} {of_all} can be merged{already}"
        matched = "; ".join(f"{selector} matched {count}" for selector, count in self.selectors.items())
        return f"{self.model}: {answer if owners else 'no layer has a kernel'}{f' ({matched})' if matched else ''}"

    def parts(
        self,
        width: int,
        more: Mapping[str, Mapping[str, int]] | None = None,
        full: bool = False,
        first: str | None = None,
    ) -> Parts:
        """Show the plan: the answer in a line, a table of the layers that own a kernel, and what is to be known.

        Args:
            width: How many columns there are.
            more: Further columns: the number for each path, that of the whole model for ``""``, by the column's head.
            full: Show a tree of all layers in place of a row for alike ones.
            first: The first line; the summary if not given.
        """
        names = summary_of(self.renamed, width)
        table = (
            plan_tree.render(self.model, self.layers, self.decisions, more or {}, width)
            if full
            else plan_rows.render(self.layers, self.decisions, more or {}, width)
        )
        return [
            first or self.summary(),
            *table,
            *([names] if names else []),
            *self._unlooked(),
            *map(str, self.remarks),
        ]

    def _unlooked(self) -> list[str]:
        """Say in a line which layers of classes that are not Keras's may have a pair."""
        places = [place for place in self.layers if place.unlooked]
        if not places:
            return []
        more = f" and {tables.counted(len(places) - 1, 'other layer')}" if len(places) > 1 else ""
        where = f"{places[0].path} ({places[0].layer}){more}, of classes that are not Keras's, with several weights"
        return [f"not looked into: {where}; {hints.DISCOVER} looks for pairs, rewriter.pair declares them"]

    def tree(self) -> str:
        """Return the plan as text, a tree of all layers of the model."""
        return tables.text(_Tree(self))


class _Tree(NamedTuple):
    plan: Plan

    def parts(self, width: int) -> Parts:
        return self.plan.parts(width, full=True)
