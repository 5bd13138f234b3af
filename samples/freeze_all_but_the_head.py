"""Fine-tune only the head of a model: what is frozen stays frozen, and keeps no optimizer state.

python samples/freeze_all_but_the_head.py
"""

from __future__ import annotations

import numpy as np

import rewriter
from handwriting import LOSS, classifier, split_digits


def main(epochs: int = 5) -> None:
    """Freeze, rewrite, train, thaw."""
    data = split_digits()
    model = classifier()
    model.compile("adam", LOSS, metrics=["accuracy"])
    model.fit(*data["base"], epochs=epochs, verbose=0)

    *body, head = model.layers
    for layer in body:
        layer.trainable = False
    model.compile("sgd", LOSS, metrics=["accuracy"])  # as ever after a change of trainable
    rewriter.rewrite(model, rewriter.JointMomentum(0.05), include=head.name)  # the body could be merged too
    frozen = [weight.copy() for layer in body for weight in layer.get_weights()]
    model.fit(*data["train"], epochs=epochs, verbose=0)
    now = [weight for layer in body for weight in layer.get_weights()]
    slots = [tuple(variable.shape) for variable in model.optimizer.variables if variable.shape.rank]
    print(f"the body is as it was: {all(map(np.array_equal, frozen, now))}")
    print(f"the optimizer's state: {slots}, one number for each of {head.units} digits")
    print(f"test accuracy {model.evaluate(*data['test'], verbose=0)[1]:.4f}")


if __name__ == "__main__":
    main()
