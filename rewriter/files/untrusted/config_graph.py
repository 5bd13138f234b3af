"""The graph of layers in a Functional config: Keras would loop forever on one that does not close."""

from __future__ import annotations

from collections import deque
from typing import Any

from ...adapters import keras

_Node = tuple[str, int]  # a layer's name, and which of its calls


def flaw(config: Any) -> str | None:
    """Return what is wrong with the graph of a Functional config, or ``None``.

    Args:
        config: The ``config`` of a model, as JSON data.
    """
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list) or "output_layers" not in config:
        return None
    if not all(isinstance(layer, dict) and isinstance(layer.get("name"), str) for layer in config["layers"]):
        return None
    calls: dict[_Node, set[_Node]] = {}
    for layer in config["layers"]:
        nodes = layer.get("inbound_nodes") or []
        if not isinstance(nodes, list):
            return f"the calls of layer {layer['name']!r} are no list"
        # An input layer is never called and has an output all the same. A model with inputs of its own was called
        # once when it was made, which is not listed, so that its calls count from 1; in Keras 3 at times from 0.
        own = _has_own_input(layer)
        if not nodes and own is not None and layer.get("class_name") != "InputLayer":
            continue  # never called, so it has no outputs
        references = [_references(node) for node in nodes or [None]]
        calls.update({(layer["name"], index): found for index, found in enumerate(references, start=own is not False)})
        if own is not False:
            calls[layer["name"], 0] = references[0]
    ends = _references(config["output_layers"])
    if not ends:
        return "its config has no outputs"
    unknown = ends.union(_references(config.get("input_layers")), *calls.values()) - set(calls)
    if unknown:
        name, index = min(unknown)
        return f"its config uses output {index} of a layer {name!r}, and there is none"
    return "its config has layers that need each other's outputs" if _has_circle(calls) else None


def _has_own_input(layer: dict[str, Any]) -> bool | None:
    """Tell whether a layer is a model with inputs of its own; ``None`` where its class is not Keras's."""
    match layer.get("config"):
        case {"layers": [{"class_name": "InputLayer"}, *_]}:
            return True
        case {"layers": _}:
            return False
    return False if keras.layer_classes(str(layer.get("class_name"))) else None


def _references(data: Any) -> set[_Node]:
    """Find all ``[name, index, tensor index]`` and ``[name, index, tensor index, arguments]`` in JSON data."""
    found: set[_Node] = set()
    waiting = [data]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            match each:
                case ["_CONSTANT_VALUE", *_]:
                    continue  # a number or an array instead of an output
                case [str() as name, int() as index, int(), *_]:
                    found.add((name, index))
                case [str() as name, int(), dict() | list() | None, *_] | [str() as name, str(), int(), dict()]:
                    found.add((name, -1))  # looks like an output, and says none
            waiting += each
        elif isinstance(each, dict):
            waiting += each.values()
    return found


def _has_circle(calls: dict[_Node, set[_Node]]) -> bool:
    users: dict[_Node, list[_Node]] = {node: [] for node in calls}
    needs = {node: len(needed) for node, needed in calls.items()}
    for node, needed in calls.items():
        for each in needed:
            users[each].append(node)
    ready = deque(node for node, count in needs.items() if not count)
    done = 0
    while ready:
        done += 1
        for user in users[ready.popleft()]:
            needs[user] -= 1
            if not needs[user]:
                ready.append(user)
    return done < len(calls)
