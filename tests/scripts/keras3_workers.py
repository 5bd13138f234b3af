"""Train on two processes of torch, each with half of every batch; print how far that is from one process with all."""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = sys.argv[1]

import keras
import numpy as np
import torch
from keras import layers
from torch import distributed, multiprocessing

import rewriter

WORKERS = 2
GENERATOR = np.random.default_rng(0)
X, Y = (GENERATOR.normal(mean, 1, (64, 8)).astype("float32") for mean in (2, 0))
OPTIMIZERS = {
    "keep": lambda: keras.optimizers.Adam(0.01),
    "joint": lambda: rewriter.keras3.JointMomentum(0.01),
    "centered": lambda: rewriter.keras3.Centered(keras.optimizers.Adam(0.01)),
    "KFAC": lambda: rewriter.keras3.KFAC(0.01, factors_every=2, every=2),
}


def train(name, worker=None):
    """Train in a loop of one's own, as Keras's guide shows it; return the weights after it."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16, activation="tanh"), layers.Dense(8)])
    optimizer = OPTIMIZERS[name]()
    rewriter.rewrite(model, optimizer)
    called = model if worker is None else torch.nn.parallel.DistributedDataParallel(model)
    for x, y in zip(np.split(X, 8), np.split(Y, 8), strict=True):
        part = slice(None) if worker is None else slice(worker, None, WORKERS)
        model.zero_grad()
        loss = ((called(torch.tensor(x[part]), training=True) - torch.tensor(y[part])) ** 2).mean()
        loss.backward()
        variables = model.trainable_variables
        with torch.no_grad():
            optimizer.apply([each.value.grad for each in variables], variables)
    rewriter.split(model)
    return [keras.ops.convert_to_numpy(each) for each in model.trainable_variables]


def said_by(call):
    """Return what a call says when it refuses, or nothing."""
    try:
        call()
    except rewriter.OptimizerError as error:
        return str(error)
    return ""


def made_before():
    """Return what those say that torch made of a model which was rewritten afterwards, or in its standard form."""
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4)])
    model.compile("adam", "mse")
    held = torch.optim.SGD(model.parameters(), 0.1), torch.nn.parallel.DistributedDataParallel(model)
    rewriter.rewrite(model, "keep")
    own = torch.optim.SGD(model.parameters(), 0.1)
    with rewriter.standard_form(model):
        inside = torch.optim.SGD(model.parameters(), 0.1)
    calls = (held[0].step, lambda: held[1](torch.ones(1, 8)), inside.step, own.step)
    return [said_by(call) for call in calls]


def listed_by_torch():
    """Return how many parameters and entries of state there are, of a module of torch around a model, in each form."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8), layers.Dense(2)])
    outer = torch.nn.ModuleDict({"inner": model, "head": torch.nn.Linear(2, 1)})
    list(outer.parameters()), list(model.parameters())  # the lists are made when they are asked for
    counts = [(len(list(outer.parameters())), len(model.state_dict()))]
    for change in (rewriter.rewrite, rewriter.split):
        change(model)
        counts.append((len(list(outer.parameters())), len(model.state_dict())))
    return counts


def work(worker, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/met", rank=worker, world_size=WORKERS)
    trained = {f"{name} {place}": each for name in OPTIMIZERS for place, each in enumerate(train(name, worker))}
    np.savez(f"{folder}/{worker}.npz", **trained, said=made_before())
    distributed.destroy_process_group()


if __name__ == "__main__":
    multiprocessing.spawn(work, (sys.argv[2],), WORKERS)
    first, second = ({**np.load(f"{sys.argv[2]}/{worker}.npz")} for worker in range(WORKERS))
    alone = {f"{name} {place}": each for name in OPTIMIZERS for place, each in enumerate(train(name))}
    errors = {name: float(np.abs(first[name] - alone[name]).max()) for name in alone}
    same = all(np.array_equal(first[name], second[name]) for name in first)
    said = {"errors": errors, "same": same, "said": list(first["said"]), "listed": listed_by_torch()}
    print(json.dumps({"backend": keras.config.backend(), **said}))
