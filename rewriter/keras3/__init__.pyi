# To a type checker the names are those of the library.

from rewriter import *  # noqa: F403
