"""What a rewritten file says of itself: who wrote it, in which format, which layers are merged and how."""

from __future__ import annotations

from typing import Any

import tf_keras

from rewriter.augmented import standard_class
from rewriter.errors import FileError
from rewriter.layout import is_merged, layout_in
from rewriter.version import __version__
from rewriter.walk import locate_layers

FORMAT_VERSION = 1
KEY = "rewriter"


def describe(model: Any, source_sha256: str | None = None) -> dict[str, Any]:
    """Describe a rewritten model, as JSON data.

    Args:
        model: The model.
        source_sha256: Digest of the file it was rewritten from, where there is one.
    """
    merged = [
        {
            "path": found.paths[0],
            "layer": standard_class(found.layer).__name__,
            "shape": list(layout_in(found.layer).shape),
            "parts": [
                {"attribute": part.attribute, "shape": list(part.shape)} for part in layout_in(found.layer).parts
            ],
        }
        for found in locate_layers(model)
        if is_merged(found.layer)
    ]
    return {
        "format_version": FORMAT_VERSION,
        "library_version": __version__,
        "tf_keras_version": tf_keras.__version__,
        "source_sha256": source_sha256,
        "layers": merged,
    }


def paths(manifest: dict[str, Any]) -> list[str]:
    """List the paths of the merged layers that a manifest names."""
    return [layer["path"] for layer in manifest["layers"]]


def require_readable(manifest: Any, path: str) -> None:
    """Raise ``FileError`` if a file's manifest is of a newer format than this library reads."""
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if not isinstance(version, int):
        raise FileError(f"{path}: its rewriter manifest is damaged: format_version is {version!r}.")
    if version > FORMAT_VERSION:
        raise FileError(
            f"{path} was written in format {version} by keras-rewriter {manifest.get('library_version')}; this is "
            f"{__version__}, which reads formats up to {FORMAT_VERSION}. Upgrade with pip install -U keras-rewriter."
        )
