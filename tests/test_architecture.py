"""The house's floors and manners (DESIGN.md), read from the source."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "vox2vec"

# A file imports only from lower floors, or from its own room. A room is a folder or the file of that name.
FLOORS = [
    {"recipe", "geometry", "interpolation", "distributed"},
    {"volume", "nn", "losses", "augmentation", "metrics"},
    {"reading", "preprocessing"},
    {"data", "inference"},
    {"matching", "figures"},
    {"training"},
    {"evaluation"},
    {"cli"},
    {"__init__", "__main__"},
]
ONLY_IN = {  # heavy packages, and the rooms that may load them
    "pytorch_lightning": {"training", "evaluation", "cli"},
    "lightning": {"training", "evaluation", "cli"},
    "matplotlib": {"figures"},
    "monai": {"metrics", "losses", "training"},
    "amid": {"data"},
    "dask": {"data", "cli"},
    "distributed": {"data", "cli"},
}


def violations(package: Path) -> list[str]:
    """Every breach in the package at `package`, one line each."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py"))}
    found = [line for path, tree in trees.items() for line in _in_file(package, path, tree)]
    return found + _circles(package, trees)


def test_the_package_keeps_its_floors_and_manners():
    assert violations(PACKAGE) == []


@pytest.mark.parametrize(
    ("files", "breach"),
    [
        ({"geometry.py": "from vox2vec.volume import Volume"}, "geometry.py imports volume from a higher floor"),
        (
            {"reading/a.py": "from vox2vec.preprocessing.b import c"},
            "reading/a.py imports preprocessing, a room",
        ),
        ({"nn/a.py": "import vox2vec.nn.b", "nn/b.py": "import vox2vec.nn.a"}, "a circle of imports: "),
        ({"nn/a.py": "from vox2vec.nn.b import *"}, "nn/a.py has a star import"),
        ({"nn/a.py": "from .b import c"}, "nn/a.py has a relative import"),
        ({"nn/a.py": "print(1)"}, "nn/a.py prints"),
        ({"nn/a.py": "assert True"}, "nn/a.py asserts"),
        ({"attic/a.py": "x = 1"}, "attic is no room of DESIGN.md"),
        ({"nn/a.py": "import matplotlib.pyplot"}, "nn/a.py loads matplotlib"),
        ({"nn/a.py": "from pytorch_lightning import Trainer"}, "nn/a.py loads pytorch_lightning"),
        (
            {"nn/a.py": "from __future__ import annotations\nfrom jaxtyping import Float"},
            "nn/a.py turns shapes into strings",
        ),
    ],
)
def test_each_breach_is_found(files, breach, tmp_path):
    for name, code in files.items():
        path = tmp_path / "vox2vec" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'"""Documented."""\n{code}\n' if "__future__" not in code else code)
    assert any(line.startswith(breach) for line in violations(tmp_path / "vox2vec"))


def test_a_file_without_a_docstring_is_found(tmp_path):
    (tmp_path / "recipe.py").write_text("x = 1\n")
    assert violations(tmp_path) == ["recipe.py has no docstring"]


def test_importing_the_package_loads_nothing_heavy_and_changes_nothing():
    code = """
import json, logging, random, sys, warnings
import numpy, torch

def state():
    return [logging.getLogger().level, torch.get_num_threads(), random.getstate()[1][:3], torch.initial_seed(),
            str(torch.get_default_dtype()), numpy.random.get_state()[1][:3].tolist()]

before = state()
import vox2vec
heavy = [name for name in ("pytorch_lightning", "lightning", "matplotlib", "monai", "amid") if name in sys.modules]
print(json.dumps([heavy, state() == before]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], True]


def _in_file(package: Path, path: Path, tree: ast.Module) -> Iterator[str]:
    name = path.relative_to(package).as_posix()
    room = _room(path.relative_to(package).with_suffix("").parts)
    if ast.get_docstring(tree) is None and path.read_text(encoding="utf-8").strip():
        yield f"{name} has no docstring"
    if not any(room in floor for floor in FLOORS):
        yield f"{room} is no room of DESIGN.md"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield f"{name} has a relative import"
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            yield f"{name} has a star import"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print" and room != "cli":
            yield f"{name} prints"
        if isinstance(node, ast.Assert):
            yield f"{name} asserts"
    modules = list(_imported(tree))
    if "__future__.annotations" in modules and any(m.startswith("jaxtyping") for m in modules):
        yield f"{name} turns shapes into strings"
    for module in modules:
        top, *rest = module.split(".")
        if top in ONLY_IN and room not in ONLY_IN[top]:
            yield f"{name} loads {top}"
        if top == "vox2vec" and rest and room not in ("__init__", "__main__"):
            yield from _between_rooms(name, room, _room(tuple(rest)))


def _between_rooms(name: str, room: str, other: str) -> Iterator[str]:
    if room == other or other == "__version__":
        return
    here, there = (next((i for i, floor in enumerate(FLOORS) if r in floor), -1) for r in (room, other))
    if there > here:
        yield f"{name} imports {other} from a higher floor"
    elif there == here:
        yield f"{name} imports {other}, a room beside its own"


def _circles(package: Path, trees: dict[Path, ast.Module]) -> list[str]:
    def module(path: Path) -> str:
        return ".".join(("vox2vec", *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__")

    names = {module(path) for path in trees}
    graph = {module(p): sorted({_known(m, names) for m in _imported(t)} - {None}) for p, t in trees.items()}
    found: list[str] = []
    done: set[str] = set()

    def visit(node: str, path: tuple[str, ...]) -> None:
        if node in path:
            found.append("a circle of imports: " + " > ".join((*path[path.index(node) :], node)))
        elif node not in done:
            for following in graph[node]:
                if following != "vox2vec":  # the doors: read for the version only
                    visit(following, (*path, node))
            done.add(node)

    for node in graph:
        visit(node, ())
    return found


def _known(module: str, names: set[str]) -> str | None:
    while module and module not in names:
        module = module.rpartition(".")[0]
    return module or None


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _room(parts: tuple[str, ...]) -> str:
    return parts[0]
