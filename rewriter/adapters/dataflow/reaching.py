"""Which of some tensors the results of a function depend on, asked of TensorFlow's tape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Callable


def reaching(run: Callable[[Callable[[Any], Any]], Any]) -> set[int]:
    """Run a function, and tell on which of some tensors its results depend.

    Args:
        run: The function. It is given ``cut``, and calls it with each of these tensors: it returns one with the same
            numbers, to go on with. What depends on a tensor by way of another that is cut does not count.

    Returns:
        The numbers of the calls of ``cut``, from 0, on which a result depends. Results without a gradient, such as
        whole numbers, say nothing.
    """
    cut_off: list[Any] = []
    with tf.GradientTape(watch_accessed_variables=False) as tape:

        def cut(tensor: Any) -> Any:
            alone = tf.stop_gradient(tensor)
            tape.watch(alone)
            cut_off.append(alone)
            return alone

        results = [each for each in tf.nest.flatten(run(cut)) if each.dtype.is_floating]
    gradients = tape.gradient(results, cut_off) if results else []
    return {number for number, gradient in enumerate(gradients) if gradient is not None}
