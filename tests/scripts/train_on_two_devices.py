"""Train under MirroredStrategy, rewritten inside and outside its scope, and on one device; print how they compare."""

import json
import sys

import numpy as np
import tf_keras

import rewriter
from mirrored import arrays, build, furthest, mirrored
from models import fit
from rules import Bounded, CenteredByHand, Rule

say, folder = {}, sys.argv[1]
GIVEN = {
    "warm": lambda: None,
    "joint": lambda: rewriter.JointMomentum(0.05, 0.75, nesterov=True, weight_decay=0.1, use_ema=True),
    "rule": lambda: Rule(0.05, clipnorm=1.0),
    "statistics": lambda: CenteredByHand(0.05),
    "together": lambda: Bounded(0.05),
    "SOAP": lambda: rewriter.SOAP(0.02, every=2, largest=4),
    "Muon": lambda: rewriter.Muon(0.02),
    "KFAC": lambda: rewriter.KFAC(0.02, factors_every=2, every=3),
    "quasi-diagonal": lambda: rewriter.QuasiDiagonal(0.02),
    "keep": lambda: "keep",
    "centered": lambda: "centered",
    "centered Adam": lambda: "centered",
}


def sgd():
    return tf_keras.optimizers.SGD(0.05, momentum=0.75)


def compiled(name):
    return tf_keras.optimizers.Adam(0.002) if "Adam" in name else sgd()


for name, given in GIVEN.items():
    inside = name in {"joint", "keep", "SOAP"}
    single = build(compiled(name))
    fit(single)
    rewriter.rewrite(single, optimizer=given())
    fit(single, 2)
    strategy = mirrored()
    with strategy.scope():
        model = build(compiled(name))
        optimizer = given()
    fit(model)
    if inside:
        with strategy.scope():
            rewriter.rewrite(model, optimizer=optimizer)
    else:
        rewriter.rewrite(model, optimizer=optimizer)
    fit(model, 2)
    kernel = model.get_layer("head").augmented_kernel
    copies = [bool(np.all(copy.numpy() == kernel.values[0].numpy())) for copy in kernel.values]
    layouts = [rewriter.layout_of(copy) == rewriter.layout_of(kernel) is not None for copy in kernel.values]
    said = say[f"{name} {'inside' if inside else 'outside'}"] = {
        "difference": furthest(model, single),
        "copies": copies + layouts,
        "variables": sorted({type(variable).__name__ for variable in model.optimizer.variables}),
    }
    path = f"{folder}/{name}{inside}.keras"
    rewriter.save_model(model, path)
    rewriter.export(model, f"{folder}/exported.keras", overwrite=True)
    exported = tf_keras.models.load_model(f"{folder}/exported.keras").get_weights()
    said["exported"] = all(np.array_equal(a, b) for a, b in zip(exported, arrays(model), strict=True))
    with strategy.scope():
        loaded = rewriter.load_model(path)
    fit(model)
    fit(loaded)
    said["resumed"] = furthest(loaded, model)
    rewriter.split(model)
    fit(model)
print(json.dumps(say))
