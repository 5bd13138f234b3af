"""The manifest of a rewritten file: the version that wrote it, and which layers are merged and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.core import tables
from rewriter.core.errors import FileError
from rewriter.core.layout import layouts_in
from rewriter.version import __version__

from ..adapters import keras
from ..model.augmented_layers import standard_class
from ..model.layer_views import is_exact
from ..model.pairs import pair_of
from ..model.walk import locate_layers
from ..rewriting.model_methods import origin_of

if TYPE_CHECKING:
    from rewriter.core.tables import Parts

_KERAS_VERSION = f"{keras.NAME}_version"
FORMAT_VERSION = 1


def describe(model: Any, source_sha256: str | None = None) -> dict[str, Any]:
    """Describe a rewritten model, as JSON data.

    Args:
        model: The model.
        source_sha256: Digest of the file it was rewritten from, where there is one and the model does not know it.
    """
    origin = origin_of(model)
    merged = [
        {
            "path": found.paths[0],
            "place": found.places[0],
            "layer": standard_class(found.layer).__name__,
            "shape": list(layout.shape),
            "exact": is_exact(found.layer),
            "parts": [{"attribute": part.attribute, "shape": list(part.shape)} for part in layout.parts],
            "pair": pair_of(layout).to_config(),
        }
        for found in locate_layers(model)
        for layout in layouts_in(found.layer)
    ]
    return {
        "format_version": FORMAT_VERSION,
        "library_version": __version__,
        _KERAS_VERSION: keras.VERSION,
        "source_sha256": source_sha256 or origin.get("source_sha256"),
        "settings": origin.get("settings", {}),
        "layers": merged,
    }


def origin(manifest: dict[str, Any]) -> dict[str, Any]:
    """Read from a manifest what a loaded model is to know of where it comes from."""
    return {key: manifest[key] for key in ("source_sha256", "settings") if manifest.get(key)}


def render(manifest: dict[str, Any]) -> Parts:
    """Show a manifest: who wrote the file, from what, how, and which layers are merged of which parts."""
    known = manifest.get("settings", {})
    settings = "; ".join(f"{name}: {_listed(value)}" for name, value in known.items())
    rows = [
        (
            layer["path"],
            layer["layer"],
            tables.shape(layer["shape"]),
            " + ".join(f"{part['attribute']} {tables.shape(part['shape'])}" for part in layer["parts"]),
        )
        for layer in manifest["layers"]
    ]
    keras_version = f"{keras.NAME.replace('_', '-')} {manifest[_KERAS_VERSION]}"
    versions = f"keras-rewriter {manifest['library_version']} with {keras_version}"
    return [
        f"rewritten by {versions}, file format {manifest['format_version']}",
        f"source sha256: {manifest.get('source_sha256') or ('none, rewritten in memory' if known else 'not known')}",
        f"settings: {settings or 'not known'}",
        tables.table(("merged layer", "class", "W*", "rows of"), rows),
    ]


def _listed(value: Any) -> str:
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def places(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Read the places of the merged layers, as :func:`rewriter.model.walk.locate_layers` has them, and what is there.

    Returns:
        For each place ``layer``, the name of the standard class, ``exact`` and ``pairs``, as JSON data.
    """
    merged: dict[str, dict[str, Any]] = {}
    for entry in manifest["layers"]:
        layer = {"layer": entry["layer"], "exact": entry["exact"], "pairs": []}
        merged.setdefault(entry["place"], layer)["pairs"].append(entry["pair"])
    return merged


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
    match manifest:
        case {"library_version": str(), "layers": list(layers)} if all(map(_is_layer, layers)):
            if isinstance(manifest.get(_KERAS_VERSION), str):
                return
    raise FileError(f"{path}: its rewriter manifest is damaged.")


def _is_layer(data: Any) -> bool:
    match data:
        case {
            "path": str(),
            "place": str(),
            "layer": str(),
            "shape": list(),
            "exact": bool(),
            "parts": list(parts),
            "pair": {"kernels": list(kernels), "biases": list(biases)},
        }:
            whole = all(isinstance(part, dict) and {"attribute", "shape"} <= part.keys() for part in parts)
            return whole and all(map(_is_weight, kernels + biases))
    return False


def _is_weight(data: Any) -> bool:
    match data:
        case {"attribute": str(), "outgoing": list(axes)}:
            return all(isinstance(axis, int) for axis in axes)
    return False
