"""Rewrite and split where the optimizer or the model does not belong to the strategy; print what is said."""

import json

import rewriter
from mirrored import build, mirrored, refused

strategy, other = mirrored(), mirrored()
with strategy.scope():
    model = build("sgd")
plain = build("sgd")
say = [refused(lambda: rewriter.rewrite(model, optimizer=rewriter.JointMomentum()))]
with other.scope():
    say.append(refused(lambda: rewriter.rewrite(model)))
    say.append(refused(lambda: rewriter.rewrite(plain)))
rewriter.rewrite(plain)
with other.scope():
    say.append(refused(lambda: rewriter.split(plain)))
print(json.dumps(say))
