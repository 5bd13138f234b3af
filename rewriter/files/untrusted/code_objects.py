"""What a config may name. Keras looks up and calls whatever a file names, so everything is checked first.

Harmless are the public parts of Keras that a model is made of, and what the user has imported: registered objects, and
classes of the kinds that models are made of.
"""

from __future__ import annotations

import builtins
import re
import sys
from typing import TYPE_CHECKING, Any

from rewriter.core import hints
from rewriter.core.errors import FileError, first_line

from ...adapters import keras
from .config_graph import flaw

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# The parts of Keras that models are made of; other parts read, write and download files.
_PARTS = frozenset(
    """activations constraints dtype_policies engine experimental feature_column initializers layers legacy
    legacy_tf_layers losses metrics mixed_precision models ops optimizers premade quantizers regularizers""".split()  # noqa: SIM905  words, to be read
)
# The parts of TensorFlow with operations on tensors, and of those that have others as well, which ones.
_OTHER_THAN_TENSORS = re.compile(
    r"app|autograph|config|data|distribute|estimator|flags|gfile|load_\w+|logging|lookup|matching_files|numpy_function|"
    r"Print|print|profiler|py_func|py_function|python_io|queue|read_file|saved_model|summary|sysconfig|test|tpu|train|"
    r"user_ops|write_file|"
    r"io\.(?!decode_|encode_|parse_).*|"
    r"debugging\.(?!assert_|check_).*|"
    r"experimental\.(?!numpy\.).*|"
    r"raw_ops\..*(File|Func|Print|Save|Restore|Read|Write|Load|Summary).*"
)
# The loaders of rewritten layers and models.
_LOADERS = frozenset({"AugmentedByKerasRewriter", "rewriter>Centered", "RewrittenByKerasRewriter"})
_WRITES = b"\x12\x09WriteFile"  # an operation of that name, as NodeDef.op stands in a serialized graph


def require_safe(
    path: Path, configs: list[Any], custom_objects: Mapping[str, Any] | None = None, safe_mode: bool = True
) -> None:
    """Raise ``FileError`` if a config would run code from the file, or names something that is not imported.

    Args:
        path: The file, for the message.
        configs: Configs as Keras wrote them.
        custom_objects: The user's own classes and functions by name.
        safe_mode: Refuse what could run code.
    """
    for config in configs:
        for node in _nodes(config):
            if (wrong := flaw(node.get("config"))) is not None:
                raise FileError(f"{path}: damaged, {wrong}.")
            if not safe_mode:
                continue
            name, module = node.get("class_name"), node.get("module")
            if name == "Lambda":
                _require_known_function(path, node, custom_objects)
            elif name == "TFOpLambda":
                _require_tensor_operation(path, node)
            if isinstance(module, str) and isinstance(name, str):
                _require_known(path, node, module, name, custom_objects)


def require_safe_graph(path: Path, safe_mode: bool = True) -> None:
    """Raise ``FileError`` where the graphs of a SavedModel would write files."""
    if safe_mode and _WRITES in (path / "saved_model.pb").read_bytes():
        raise FileError(f"{path}: its graph writes files. {_RUNS_CODE.format(_SWITCH)}")


_RUNS_CODE = "That would run code from the file. If you trust its maker: {}."
_SWITCH = hints.Argument("safe_mode", False)


def _nodes(data: Any) -> Iterator[dict[str, Any]]:
    waiting = [data]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield each
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each


def _require_known_function(path: Path, node: Any, custom_objects: Mapping[str, Any] | None) -> None:
    config = node.get("config")
    function = config.get("function") if isinstance(config, dict) else None
    named = function.get("config") if isinstance(function, dict) and function.get("class_name") == "function" else None
    if function is None or (isinstance(named, str) and keras.registered_object(named, custom_objects)):
        return
    name = config.get("name") if isinstance(config, dict) else None
    raise FileError(f"{path}: it has a Lambda layer, {name!r}. {_RUNS_CODE.format(_SWITCH)}")


def _require_tensor_operation(path: Path, node: Any) -> None:
    config = node.get("config")
    function = config.get("function") if isinstance(config, dict) else None
    name = str(function).removeprefix("compat.v1.")
    if _OTHER_THAN_TENSORS.fullmatch(name) or _OTHER_THAN_TENSORS.fullmatch(name.partition(".")[0]):
        raise FileError(f"{path}: it calls tf.{function}. {_RUNS_CODE.format(_SWITCH)}")


def _require_known(path: Path, node: Any, module: str, name: str, custom_objects: Mapping[str, Any] | None) -> None:
    function = name == "function"
    wanted = node.get("config") if function else name
    if not isinstance(wanted, str):
        raise FileError(f"{path}: damaged, its config names the function {wanted!r}.")
    registered = wanted if function else node.get("registered_name")
    if keras.registered_object(registered, custom_objects) is not None:
        return
    if module == "builtins":
        # So Keras writes its own functions, and looks for what is none of them among Python's: exit, input, open.
        if hasattr(builtins, wanted):
            raise FileError(f"{path}: it names Python's own {wanted}, which is no part of a model; refused.")
        return
    module = keras.portable_config({"module": module})["module"]  # on torch Keras names classes of torch
    top, *rest = f"{module}.{wanted}".split(".")
    if top in {"keras", "tf_keras"}:
        parts = [part for part in rest[:-1] if part not in {"src", "api", "_v2", "v2", "v1"}]
        if not parts or parts[0] in _PARTS or parts[0] == "__internal__":
            return
        if wanted in layers_of_applications([node]):
            return
        raise FileError(f"{path}: it names {module}.{wanted}, which is no part of a model; refused.")
    if top == "rewriter" and rest[-1] in _LOADERS:
        return
    if not keras.is_kind_of_object(_found(module, wanted)):
        kind = "function" if function else "class"
        raise FileError(f"{path}: {unknown(wanted, kind, module)}")


def layers_of_applications(configs: list[Any]) -> dict[str, Any]:
    """Return the layers that an application of Keras has for itself, which Keras does not find when it reads a file.

    Args:
        configs: Configs as Keras wrote them.
    """
    named = [(node.get("module"), node.get("class_name")) for config in configs for node in _nodes(config)]
    found = {
        name: _found(module, name)
        for module, name in named
        if isinstance(module, str) and isinstance(name, str) and ".applications." in module
    }
    return {name: cls for name, cls in found.items() if keras.is_kind_of_object(cls)}


def _found(module: str, name: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


_UNKNOWN = (
    re.compile(r"Unknown (?P<kind>layer|object|loss function|metric function|optimizer): '?(?P<name>[\w>.]+)"),
    re.compile(r"Could not locate (?P<kind>class|function) '(?P<name>[\w>.]+)'"),
    re.compile(r"Cannot deserialize object of type `(?P<name>\w+)`"),
    re.compile(r"Unable to restore a (?P<kind>layer) of class (?P<name>\w+)"),
)


_SHORT_NAME = re.compile(r"Could not deserialize 'keras.metrics.(?P<name>\w+)' because")


def explain(error: BaseException) -> str:
    """Return one line on why Keras could not read a model."""
    text = str(error).strip()
    for pattern in _UNKNOWN:
        if found := pattern.search(text):
            return unknown(found["name"], found.groupdict().get("kind") or "class")
    if "lambda" in text.lower() and "safe_mode" in text:
        return f"it has {'a Lambda layer' if 'Lambda' in text else 'a lambda function'}. {_RUNS_CODE.format(_SWITCH)}"
    if found := _SHORT_NAME.search(text):
        return (
            f"Keras writes {found['name']!r}, the short name of a loss, into .h5 and cannot read it. Compile the model "
            "with the whole name before it is saved, or save it as .keras; "
            f"{keras.LIBRARY}.load_model(path, compile=False) reads the rest of this one."
        )
    return f"Keras cannot read this model: {first_line(error)}"


def unknown(name: str, kind: str = "class", module: str | None = None) -> str:
    """Return in words that a file needs a user's class or function, and how to provide it."""
    package, registered, bare = name.rpartition(">")
    if module and module != "__main__":
        how = str(hints.import_of(module))
    elif registered:
        how = f"{hints.import_of()}, the one that registers it for the package {package!r}"
    else:  # it was not registered when it was saved, and a name that it is registered by now is another one
        known = f"{keras.NAME}.saving.get_custom_objects()[{name!r}] = {name}"
        how = f"{hints.import_of()}, one that defines it and says {known}"
    return (
        f"it has {'an' if kind[0] in 'aeiou' else 'a'} {kind} of your own, {name}, that is not known here: "
        f"{how}{hints.or_pass(f'{{{name!r}: {bare}}}')}."
    )
