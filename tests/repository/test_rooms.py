"""The rooms of the house: who may import whom, read from the syntax tree."""

import ast
import importlib.util
from collections import Counter
from pathlib import Path

from processes import ROOT

LIBRARY = ROOT / "rewriter"
# From low to high. A package imports from itself and from those before it.
ROOMS = ("core", "adapters", "model", "planning", "optimizers", "rewriting", "files", "commands")
SECOND = "keras3"  # the library read a second time, and no room
PATHS = {
    ".".join(("rewriter", *path.relative_to(LIBRARY).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in LIBRARY.rglob("*.py")
}


def absolute(name, node):
    """Return the absolute name of what a module imports from."""
    package = name if PATHS[name].name == "__init__.py" else name.rpartition(".")[0]
    return importlib.util.resolve_name("." * node.level + (node.module or ""), package)


def imported_by(name):
    """Return the modules of the library that a module imports, for its types too."""
    found = set()
    for node in ast.walk(ast.parse(PATHS[name].read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            module = absolute(name, node)
            names = (f"{module}.{each.name}" for each in node.names)
            found |= {each if each in PATHS else module for each in names}
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
    return {each for each in found if each in PATHS} - {name}


IMPORTS = {name: imported_by(name) for name in PATHS}


def height(name):
    """Return how high a module's room is; the top of the package is above all rooms."""
    room = f"{name}.".split(".")[1]
    return ROOMS.index(room) if room in ROOMS else len(ROOMS)


def test_every_folder_is_a_room():
    assert {path.name for path in LIBRARY.iterdir() if path.is_dir() and path.name != "__pycache__"} == {*ROOMS, SECOND}


def test_imports_go_down():
    # The top is below all rooms too: it says which version this is, and anyone may ask.
    up = [
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        for other in others - {"rewriter.version"}
        if height(other) > height(name)
    ]
    assert not up


def test_imports_make_no_circle():
    left = {name: set(others) for name, others in IMPORTS.items()}
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    assert not left


FRAMEWORKS = {"tensorflow", "tf_keras", "keras", "jax", "torch"}


def test_frameworks_are_imported_by_adapters_alone():
    found = set()
    for name, path in PATHS.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            modules = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            modules += [absolute(name, node)] if isinstance(node, ast.ImportFrom) else []
            if FRAMEWORKS & {module.partition(".")[0] for module in modules}:
                found.add(name)
    assert {name for name in found if not name.startswith("rewriter.adapters")} == set()


def test_the_protocol_asks_what_is_asked():
    """Each question of the protocol is asked outside of adapters/, and no other is."""
    asked = [
        node
        for name, path in PATHS.items()
        if not name.startswith("rewriter.adapters")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
    ]
    of_keras = {node.attr for node in asked if isinstance(node.value, ast.Name) and node.value.id == "keras"}
    assert of_keras == questions_in("protocol")
    assert questions_in("capabilities") <= {node.attr for node in asked}


def questions_in(module):
    """Return the names of what a module of protocols asks for."""
    tree = ast.parse(PATHS[f"rewriter.adapters.{module}"].read_text("utf-8"))
    members = [each for group in tree.body if isinstance(group, ast.ClassDef) for each in group.body]
    functions = {each.name for each in members if isinstance(each, ast.FunctionDef)}
    return functions | {each.target.id for each in members if isinstance(each, ast.AnnAssign)}


def test_private_attributes_of_keras_are_named_in_adapters_alone():
    """A private attribute of anything but ``self``, ``cls`` and ``super()`` is somebody else's."""
    found = set()
    for name, path in PATHS.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            private = isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
            own = private and ast.unparse(node.value) in {"self", "cls", "super()"}
            if private and not own and node.attr != "_replace":  # of a NamedTuple
                found.add(f"{name}: {ast.unparse(node)}")
    assert {each for each in found if not each.startswith("rewriter.adapters")} == set()


def test_no_folder_has_more_modules_than_one_finds_at_a_glance():
    crowded = {
        str(folder): count for folder, count in Counter(map(Path.parent.fget, PATHS.values())).items() if count > 16
    }
    assert not crowded


def test_every_module_says_what_it_is_for():
    assert not [name for name, path in PATHS.items() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]
