"""Why a kernel is merged or left as it is, and what is remarked on: each a value with its details."""

from __future__ import annotations

from rewriter.core.messages import Sentence


class Merge(Sentence):
    """Why a kernel is merged with its bias."""

    PAIR = "{weights}"
    SHARED = "shared: {paths}"
    FOUND = "found: {why}"
    DECLARED = "declared: {why}"


class Skip(Sentence):
    """Why a kernel is left as it is."""

    ALREADY_MERGED = "already merged"
    STAYS_MERGED = "already merged: {exclude} does not split a layer, {split} splits them all"
    NOT_SELECTED = "not selected"
    NOT_BUILT = "not built, so it has no weights yet: call the model on a batch, or model.build(input_shape)"
    NOT_ASKED_FOR = "not asked for: {layers} merges it too"
    NOT_ASKED_FOR_NOR_BUILT = "not asked for, and not built"
    NO_BIAS = "no bias (use_bias=False)"
    ONE_WEIGHT = "{layer} has one weight alone: there is no bias that could be merged with it"
    NO_FAMILY = "{layer} is of no known family: {discover} looks for a pair in it, and rewriter.pair declares one"
    NO_PAIR_FOUND = "{layer} is of no known family: {discover} found no pair in it, and rewriter.pair declares one"
    UNKNOWN_CLASS = (
        "the class {layer} is not known here, and Keras runs a graph in its place: {import_of}, the one that defines "
        "it{or_pass}"
    )
    COMPUTES_OTHERWISE = "{why}, so it does not compute with its kernel as it is"
    REPLACED = "its {attribute} is no variable of its own but {kind}: something replaced it"
    STORED_OTHERWISE = "its {attribute} is a {kind}, which may be read otherwise than it is stored"
    HELD_TWICE = "{names} are one variable: merging would untie them"
    ASSIGNED_TO = "the code of {layer} {name!r} assigns to its {attributes}"
    NOT_ITS_OWN = "its {attributes} is not among the layer's own weights"
    SEVERAL_DTYPES = "{dtypes}: one variable has one dtype"
    PARTLY_TRAINABLE = "of {attributes} only some are trainable: one variable is trained whole"
    NO_AXIS = "{attribute} {shape} has no axis {axis}"
    UNITS_DIFFER = "{shapes} differ in units"
    COSTLY = (
        "each step would copy its {attribute}, transposed, as its units are not the last axes, and use it only {uses} "
        "times an example: it would train more slowly than it does now"
    )
    NOT_PROVEN = "found, and left as it is: {difference}"


class Finding(Sentence):
    """A use of a weight that an optimizer of whole layers would not expect."""

    IN_NO_PAIR = "trainable, and in no pair: {how}"
    SEVERAL_USES = "used in more than one way: {uses}"
    LONELY_PRODUCT = "{how}"
    MERGED_ALL_THE_SAME = "merged as its family or a declaration says, and in what the model computes: {how}"
