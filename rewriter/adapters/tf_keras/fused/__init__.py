"""Optional: a product and an update that take fewer passes over memory than their plain forms."""

from .momentum_step import fused_update as update
from .product import fused_product as product
from .product import fuses_product as takes_product
from .velocity_step import velocity_step

__all__ = ["product", "takes_product", "update", "velocity_step"]
