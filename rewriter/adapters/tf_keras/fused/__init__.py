"""Optional: a product and an update that take fewer passes over memory than their plain forms."""

from .momentum_step import fused_update as update
from .product import fused_product as product
from .product import fuses_product as takes_product
from .product import product_is_exact
from .together import update_together, updates_together
from .velocity_step import velocity_step

__all__ = [
    "product",
    "product_is_exact",
    "takes_product",
    "update",
    "update_together",
    "updates_together",
    "velocity_step",
]
