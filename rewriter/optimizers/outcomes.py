"""What becomes of an optimizer, its settings and its state: every outcome there is, each a value with its details."""

from __future__ import annotations

from rewriter.core.messages import Sentence


class Outcome(Sentence):
    """What becomes of an optimizer, or of a part of it."""

    OPTIMIZER = "optimizer: {what}"
    SETTING = "{name}: {value} {how}"
    SETTINGS_LOST = "settings of {optimizer}: not carried, {what}; give them to JointMomentum"
    STATE_LOST = "state of {optimizer}: not carried, {what}"
    STATE_LOST_BUT_KEPT_BY = "state of {optimizer}: not carried, {what}; {keep} keeps it"
    SLOTS = "slots: {what}"
    SLOTS_CARRIED = "slots: {count} carried"
    ITERATIONS_CARRIED = "iterations: {count} carried"
    VELOCITY = "velocity: {what}"
    LOSS_SCALE_CARRIED = "loss scale: {scale:.6g} carried"
    LOSS_SCALE_LOST = "loss scale: not in the file, .keras and .h5 have no place for it"
    CLIPNORM_CARRIED = "clipnorm: {value} carried; it bounds a merged kernel and bias as one"
    SAVED_MODEL = "note: plain Keras reads no state of an optimizer from a SavedModel; rewriter.load_model does"


LOST = {Outcome.STATE_LOST, Outcome.STATE_LOST_BUT_KEPT_BY, Outcome.SETTINGS_LOST}
