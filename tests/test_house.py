"""The house: imports go down the folders in few floors; no cycle; no name has two meanings.

The graph has one node a file of the library; imports inside functions count. A name imported from
a package face (`__init__.py`) is an arrow to the module that defines it; a name that the face
defines itself is an arrow to the face.
"""

import ast
import functools
import importlib
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

import mopl_jax

ROOT = Path(mopl_jax.__file__).parent
ORDER = (
    "doors",
    "numerics",
    "warehouse",
    "policies",
    "logs",
    "io",
    "estimators",
    "intervals",
    "diagnostics",
    "evaluation",
    "learning",
    "metrics",
    "planning",
    "simulation",
    "coverage",
    "report",
    "",  # the face of the library: its verbs, which the command may call
    "cli",
)
MOST_FLOORS = 11


class House(NamedTuple):
    """The files of a library and the imports between them."""

    name: str
    trees: dict[str, ast.Module]  # dotted name → parsed file
    faces: frozenset[str]  # the dotted names that are packages
    arrows: dict[str, set[str]]  # dotted name → the files it imports


def parsed(root):
    """The parsed files under a folder by dotted name, and which of them are packages."""
    trees, faces = {}, set()
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(path.read_text(), str(path))
        if path.name == "__init__.py":
            faces.add(name)
    return trees, frozenset(faces)


def imported(tree):
    """(module, name or None, local name) of every import of a file, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"expected absolute imports, got line {node.lineno}"
            for alias in node.names:
                yield node.module, alias.name, alias.asname or alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None, alias.asname or alias.name.split(".")[0]


def attributes_of(tree, name):
    """The attributes read from a name in a file; None among them stands for the bare name."""
    inner = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == name:
                inner.add(id(node.value))
                yield node.attr
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == name and id(node) not in inner:
            yield None


def house(root):
    """The import graph of the library in a folder."""
    trees, faces = parsed(root)
    bound = {
        face: {local: (module, name) for module, name, local in imported(trees[face])}
        for face in faces
    }

    def defining(module, name):
        """The file that defines what `from module import name` names."""
        if name is None or f"{module}.{name}" in trees:
            return module if name is None else f"{module}.{name}"
        if module in faces and name in bound[module]:
            return defining(*bound[module][name])
        return module

    def targets(tree):
        for module, name, local in imported(tree):
            found = defining(module, name)
            if found not in faces or found == module and name is not None:
                yield found
                continue
            for attribute in attributes_of(tree, local):
                yield defining(found, attribute) if attribute else found

    arrows = {
        file: {target for target in targets(tree) if target in trees and target != file}
        for file, tree in trees.items()
    }
    return House(root.name, trees, faces, arrows)


def room(house, file):
    """The place of a file in the folder order: its first folder, or its own name at the top."""
    parts = file.split(".")
    return parts[1] if len(parts) > 1 else ""


def cycles(house):
    """The sets of files that import each other, directly or through others."""
    reach = {file: reachable(house, file) for file in house.trees}
    loops = {
        frozenset(other for other in reach[file] if file in reach[other]) for file in house.trees
    }
    return [sorted(loop) for loop in loops if loop]


def reachable(house, file):
    """All files that a file imports, directly or through others."""
    found, left = set(), list(house.arrows[file])
    while left:
        if (target := left.pop()) not in found:
            found.add(target)
            left.extend(house.arrows[target])
    return found


def upward(house, order=ORDER):
    """The arrows from a folder to one that stands later in the order."""
    return [
        f"{file} → {target}"
        for file, targets in house.arrows.items()
        for target in sorted(targets)
        if order.index(room(house, file)) < order.index(room(house, target))
    ]


def longest_chain(house):
    """The longest chain of files of which each imports the next; faces are not counted."""

    @functools.cache
    def chain(file):
        below = max(map(chain, sorted(house.arrows[file])), key=len, default=())
        return below if file in house.faces else (file, *below)

    return max(map(chain, house.trees), key=len)


def anonymous(house):
    """The functions called `_`, as file:line."""
    return [
        f"{file}:{node.lineno}"
        for file, tree in house.trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == "_"
    ]


def two_meanings(house):
    """The attributes of packages that are a module and also something else."""
    return [
        f"{face}.{module}"
        for face in sorted(house.faces)
        for module in sorted(modules_of(house, face))
        if module in other_names(house, face) or not isinstance(on_demand(face, module), ModuleType)
    ]


def modules_of(house, face):
    """The names of the files and folders that lie directly in a package."""
    return {file.rpartition(".")[2] for file in house.trees if file.rpartition(".")[0] == face}


def other_names(house, face):
    """The names that a face imports or defines and that are not modules."""
    for module, name, local in imported(house.trees[face]):
        if name is not None and f"{module}.{name}" not in house.trees:
            yield local
    for node in house.trees[face].body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def on_demand(face, module):
    """What the `__getattr__` of a face gives for the name of one of its modules, if it has one."""
    package = importlib.import_module(face)
    try:
        return vars(package).get("__getattr__", lambda name: package)(module)
    except AttributeError:
        return package


@pytest.fixture(scope="module")
def ours():
    return house(ROOT)


def test_every_room_has_its_place(ours):
    assert {room(ours, file) for file in ours.trees} <= set(ORDER)


def test_no_cycle(ours):
    assert cycles(ours) == []


def test_no_arrow_upwards(ours):
    assert upward(ours) == []


def test_few_floors(ours):
    chain = longest_chain(ours)
    assert len(chain) <= MOST_FLOORS, " → ".join(chain)


def test_what_reads_a_log_estimates_nothing(ours):
    """A file of `io` reaches numerics, policies, logs and its own folder alone."""
    below = ORDER[: ORDER.index("io") + 1]
    readers = [file for file in ours.trees if room(ours, file) == "io"]
    assert readers
    assert {
        file: sorted(target for target in reachable(ours, file) if room(ours, target) not in below)
        for file in readers
    } == dict.fromkeys(readers, [])


def test_no_name_has_two_meanings(ours):
    assert two_meanings(ours) == []


def test_every_function_has_a_name(ours):
    assert anonymous(ours) == []


# The walk itself, on a library with one fault of every kind.

TOY = {
    "__init__": "",
    "low/__init__": "from toy.low.one import one, two",
    "low/one": "def one(): ...\ndef two(): ...\ndef _(): ...",
    "low/late": "def f():\n    from toy.high import four",
    "low/face": "from toy.high import TABLE",
    "high/__init__": "from toy.high.four import four as four_\nTABLE = {}",
    "high/four": "from toy import low\nfour = low.two",
    "high/five": """
from toy import low
from toy.high import four
from toy.low import late
print(low)
""",
    "ring/__init__": """
def __getattr__(name):
    if name == "six":
        return 6
    raise AttributeError
""",
    "ring/six": "import toy.ring.seven",
    "ring/seven": "from toy.ring import six",
}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    for file, text in TOY.items():
        path = tmp_path / "toy" / f"{file}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return house(tmp_path / "toy")


def test_the_walk_follows_names_to_the_files_that_define_them(toy):
    assert {
        file.removeprefix("toy."): targets for file, targets in toy.arrows.items() if targets
    } == {
        "low": {"toy.low.one"},
        "low.late": {"toy.high.four"},
        "low.face": {"toy.high"},
        "high": {"toy.high.four"},
        "high.four": {"toy.low.one"},
        "high.five": {"toy.low", "toy.low.late", "toy.high.four"},
        "ring.six": {"toy.ring.seven"},
        "ring.seven": {"toy.ring.six"},
    }


def test_the_walk_finds_every_fault(toy):
    assert upward(toy, ("", "low", "high", "ring")) == [
        "toy.low.face → toy.high",
        "toy.low.late → toy.high.four",
    ]
    assert cycles(toy) == [["toy.ring.seven", "toy.ring.six"]]
    assert two_meanings(toy) == ["toy.low.one", "toy.ring.six"]
    assert anonymous(toy) == ["toy.low.one:3"]
    assert "toy.high" in reachable(toy, "toy.low.face")
    straight = toy._replace(
        trees={file: tree for file, tree in toy.trees.items() if room(toy, file) != "ring"}
    )
    assert longest_chain(straight) == (
        "toy.high.five",
        "toy.low.late",
        "toy.high.four",
        "toy.low.one",
    )
