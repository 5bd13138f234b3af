"""The graph of layers that a Functional config describes: Keras goes in circles for ever where it does not close."""

from __future__ import annotations

from collections import deque
from typing import Any

_Node = tuple[str, int]  # a layer's name, and which of its calls


def flaw(config: Any) -> str | None:
    """Say what is wrong with the graph of a Functional config, ``None`` where nothing is, or it is no such config.

    Args:
        config: The ``config`` of a model, as JSON data.
    """
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list) or "output_layers" not in config:
        return None
    calls: dict[_Node, set[_Node]] = {}
    skipped: dict[str, int] = {}
    for layer in config["layers"]:
        if not isinstance(layer, dict) or not isinstance(layer.get("name"), str):
            return "a layer in its config has no name"
        name, nodes, inner = layer["name"], layer.get("inbound_nodes") or [], layer.get("config")
        # A model inside has a call of its own, from when it was made, which is not listed here.
        skipped[name] = int(isinstance(inner, dict) and "layers" in inner)
        # An input layer is called by nobody and has an output all the same.
        for index in range(max(1, len(nodes))):
            calls[name, index] = _references(nodes[index]) if index < len(nodes) else set()
    ends = _references(config["output_layers"]) | _references(config.get("input_layers"))
    if not ends:
        return "its config has no outputs"

    def listed(node: _Node) -> _Node:
        return node[0], max(0, node[1] - skipped.get(node[0], 0))

    calls = {node: {listed(needed) for needed in all_needed} for node, all_needed in calls.items()}
    unknown = {listed(end) for end in ends}.union(*calls.values()) - set(calls)
    if unknown:
        name, index = min(unknown)
        return f"its config uses output {index} of a layer {name!r}, and there is none"
    return "its config has layers that need each other's outputs" if _has_circle(calls) else None


def _references(data: Any) -> set[_Node]:
    """Find all ``[name, index, tensor index]`` and ``[name, index, tensor index, arguments]`` in JSON data."""
    found: set[_Node] = set()
    waiting = [data]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            match each:
                case ["_CONSTANT_VALUE", *_]:
                    continue  # a number or an array, in the place of an output
                case [str() as name, int() as index, int(), *_]:
                    found.add((name, index))
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
