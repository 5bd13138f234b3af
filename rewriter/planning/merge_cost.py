"""Which layers would train slower: a weight whose units are not its last axes is copied, transposed, in every step.

It is copied to read it from ``W*``, and its gradient on the way back. Where a weight is used few times in a step, the
copies take longer than the products. Training steps with SGD, rewritten over original, on two CPU cores, by uses of
each weight in a step:

=========================================  ====  ====  ========  =====
four ``EinsumDense("abc,dc->abd")``          16  1024      2048   4096
=========================================  ====  ====  ========  =====
64 by 64                                   1.68  1.08  ..         1.01
256 by 256                                 1.75  1.04  1.02       1.02
three ``Conv2DTranspose``, 3 by 3 taps      128   512      2048   8192
32 by 32                                   1.13  1.00  0.97 1.03  ..
128 by 128                                 1.07  1.02  1.01       1.01
=========================================  ====  ====  ========  =====

So with 256 uses an example a step stays within 1.05 of the original's, if a batch has eight examples or more.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .reasons import Skip

if TYPE_CHECKING:
    from rewriter.core.layout import Layout
    from rewriter.core.messages import Message

_ENOUGH_USES = 256  # of each weight, for one example


def cost_blocker(layer: Any, layout: Layout) -> Message | None:
    """Return why training would be slower once a built layer is merged, ``None`` if it would not."""
    copied = [part for part in layout.parts[: -layout.biases] if part.transposed]
    uses = _uses(layer, layout) if copied else None
    if uses is None or uses >= _ENOUGH_USES:
        return None
    return Skip.COSTLY(attribute=copied[0].attribute, uses=uses)


def _uses(layer: Any, layout: Layout) -> int | None:
    """Count how often one example uses each weight of a layer; ``None`` if that depends on the input."""
    output, built = getattr(layer, "full_output_shape", None), layer.get_build_config()
    if output is not None:
        shape, once = output, layout.units
    elif built is not None:
        taps = math.prod(getattr(layer, "kernel_size", ()))
        shape, once = built["input_shape"], layout.parts[0].rows // taps
    else:
        return None
    sizes = list(shape)[1:]
    return math.prod(sizes) // once if all(isinstance(size, int) for size in sizes) else None
