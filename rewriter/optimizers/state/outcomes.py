"""What becomes of an optimizer, its settings and its state: every outcome there is, each a value with its details."""

from __future__ import annotations

from rewriter.core.messages import Sentence


class Outcome(Sentence):
    """What becomes of an optimizer, or of a part of it."""

    OPTIMIZER = "optimizer: {what}"
    SETTING = "{name}: {value} {how}"
    SETTINGS_LOST = "settings of {optimizer}: lost, {what}; give them to {new}"
    STATE_LOST = "state of {optimizer}: lost, {what}"
    STATE_LOST_BUT_KEPT_BY = "state of {optimizer}: lost, {what}; {keep} keeps it"
    STATE_LOST_BUT_KEPT_OR_CENTERED = "state of {optimizer}: lost, {what}; {keep} or {center} keeps it"
    SLOTS = "slots: {what}"
    SLOTS_KEPT = "slots: {count} kept"
    ALSO_KEPT = "also kept: state of the {optimizer}{where} after {count} steps"
    ITERATIONS_KEPT = "iterations: {count} kept"
    VELOCITY = "velocity: {what}"
    LOSS_SCALE_KEPT = "loss scale: {scale:.6g} kept"
    LOSS_SCALE_LOST = "loss scale: not in the file, .keras and .h5 have no place for it"
    CLIPNORM_KEPT = "clipnorm: {value} kept; it bounds a merged kernel and bias as one"
    SAVED_MODEL = "note: plain Keras reads no state of an optimizer from a SavedModel; rewriter.load_model does"


LOST = {
    Outcome.STATE_LOST,
    Outcome.STATE_LOST_BUT_KEPT_BY,
    Outcome.STATE_LOST_BUT_KEPT_OR_CENTERED,
    Outcome.SETTINGS_LOST,
}
