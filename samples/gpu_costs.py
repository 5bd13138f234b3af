"""What a step of the rules on whole layers costs on a GPU, over one of Adam: Keras 3 on JAX, large batches.

Run it on a machine with a GPU, ``python samples/gpu_costs.py [ROUNDS] [NETWORK ...]``. A CPU takes hours, but
minutes for ``3 "512 x 4, batch 4096"``.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import rewriter
from backend_costs import adam, print_costs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backend_costs import Compared

ROUNDS, _RATE = 5, 1e-4  # at which nothing leaves the region in which its numbers are ordinary
NETWORKS = (
    *(f"{width} x 4, batch {8 * width}" for width in (1024, 2048, 4096)),
    *(f"{width} x 4, batch {batch}" for width in (1024, 4096) for batch in (256, 2048)),
)
COMPARED: Compared = {
    "SOAP": (lambda: rewriter.keras3.SOAP(_RATE), adam),
    "SOAP, largest=512": (lambda: rewriter.keras3.SOAP(_RATE, largest=512), adam),
    "K-FAC, factors_every=10": (lambda: rewriter.keras3.KFAC(_RATE, factors_every=10), adam),
    "Muon": (lambda: rewriter.keras3.Muon(_RATE), adam),
    "Muon, bfloat16 products": (lambda: rewriter.keras3.Muon(_RATE, products="bfloat16"), adam),
}


def widths_and_batch(network: str) -> tuple[tuple[int, ...], int]:
    """Read a name like ``"1024 x 4, batch 8192"``: the width, how many layers, and the batch."""
    width, layers, batch = map(int, re.findall(r"\d+", network))
    return (width,) * (layers + 1), batch


def main(rounds: int = ROUNDS, networks: Iterable[str] = NETWORKS) -> None:
    """Print the costs on some networks."""
    print_costs({name: widths_and_batch(name) for name in networks}, rounds, COMPARED)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS, sys.argv[2:] or NETWORKS)
