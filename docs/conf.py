"""Settings of the reference: ``make docs`` builds it from the docstrings, and takes each warning for an error."""

from rewriter.version import __version__

project = "rewriter"
author = "the engineers of rewriter"
project_copyright = f"2026, {author}"
version = release = __version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
html_theme = "furo"
html_title = f"rewriter {__version__}"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say what they take
napoleon_use_rtype = False
napoleon_use_ivar = True
