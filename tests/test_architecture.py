"""The house's floors and manners, read from the source; the floors are those of docs/rooms.md."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vox2vec"


def _rooms(page: str) -> list[tuple[int, str, frozenset[str]]]:
    """Of each line of the page's table the floor, the room, and the heavy packages that it may load."""
    lines = re.findall(r"^\| (\d+) \| `(\w+)` \| [^|]+ \|([^|]*)\|$", page, re.MULTILINE)
    return [(int(floor), room, frozenset(re.findall(r"`(\w+)`", heavy))) for floor, room, heavy in lines]


# A file imports only from lower floors, or from its own room. A room is a folder or the file of that name.
PAGE = (ROOT / "docs" / "rooms.md").read_text(encoding="utf-8")
ROOMS = _rooms(PAGE)
FLOOR = {room: floor for floor, room, _ in ROOMS}
ONLY_IN = {  # heavy packages, and the rooms that may load them
    package: {room for _, room, heavy in ROOMS if package in heavy}
    for package in frozenset().union(*(h for *_, h in ROOMS))
}


def violations(package: Path) -> list[str]:
    """Every breach in the package at `package`, one line each."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py"))}
    found = [line for path, tree in trees.items() for line in _in_file(package, path, tree)]
    return found + _circles(package, trees)


def test_the_package_keeps_its_floors_and_manners():
    assert violations(PACKAGE) == []


def test_the_page_lists_every_room_once_and_no_other():
    files = [path for path in PACKAGE.glob("*") if path.suffix == ".py" or any(path.glob("*.py"))]
    assert sorted(room for _, room, _ in ROOMS) == sorted(path.stem for path in files)


def test_every_file_that_the_page_names_is_there():
    named = re.findall(r"`((?:vox2vec|tests|benchmarks|examples)/[\w/.]*|\w+\.py)`", PAGE)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    ("files", "breach"),
    [
        ({"geometry.py": "from vox2vec.volume import Volume"}, "geometry.py imports volume from a higher floor"),
        (
            {"reading/a.py": "from vox2vec.preprocessing.b import c"},
            "reading/a.py imports preprocessing, a room",
        ),
        ({"figures/a.py": "from vox2vec.matching.b import c"}, "figures/a.py imports matching, a room beside its own"),
        ({"volume.py": "from vox2vec.nn.a import b"}, "volume.py imports nn, a room beside its own"),
        ({"nn/a.py": "import vox2vec.nn.b", "nn/b.py": "import vox2vec.nn.a"}, "a circle of imports: "),
        ({"nn/a.py": "from vox2vec.nn.b import *"}, "nn/a.py has a star import"),
        ({"nn/a.py": "from .b import c"}, "nn/a.py has a relative import"),
        ({"nn/a.py": "print(1)"}, "nn/a.py prints"),
        ({"nn/a.py": "assert True"}, "nn/a.py asserts"),
        ({"attic/a.py": "x = 1"}, "attic is no room of docs/rooms.md"),
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


def test_opening_every_door_but_the_one_that_trains_loads_nothing_heavy_and_changes_nothing():
    code = """
import json, logging, random, sys, warnings
import numpy, torch

def state():
    return [logging.getLogger().level, torch.get_num_threads(), random.getstate()[1][:3], torch.initial_seed(),
            str(torch.get_default_dtype()), numpy.random.get_state()[1][:3].tolist()]

before = state()
import vox2vec
doors = [getattr(vox2vec, name) for name in vox2vec.__all__ if name != "evaluate"]
assert "vox2vec.matching.landmarks" in sys.modules
heavy = [name for name in ("pytorch_lightning", "lightning", "matplotlib", "monai", "amid") if name in sys.modules]
print(json.dumps([heavy, state() == before]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], True]


def test_no_benchmark_calls_a_command():
    """What a benchmark measures is a function that anyone can call."""
    trees = {path.name: ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "benchmarks").rglob("*.py")}
    assert [
        name for name, tree in trees.items() if any(f"{m}.".startswith("vox2vec.cli.") for m in _imported(tree))
    ] == []


def test_a_command_is_one_screen():
    """It parses, calls one function of the library and prints; what is longer is in the wrong room."""
    lines, long = [], []
    for path in (PACKAGE / "cli").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        lines.append(len(text.splitlines()))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.name == "run" and node.end_lineno - node.lineno + 1 >= 20:
                long.append(f"{path.name}: {node.end_lineno - node.lineno + 1} lines")
    assert long == []
    assert sum(lines) / len(lines) < 107  # 1,700 of 16 files, when this house was planned


def test_no_module_of_matching_loads_lightning():
    modules = [path.relative_to(ROOT).with_suffix("").as_posix() for path in (PACKAGE / "matching").glob("*.py")]
    names = sorted(module.replace("/", ".").removesuffix(".__init__") for module in modules)
    code = f"import importlib, sys; [importlib.import_module(name) for name in {names}]; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "vox2vec.matching.landmarks" in loaded
    assert not {"pytorch_lightning", "lightning"} & set(loaded)


def _in_file(package: Path, path: Path, tree: ast.Module) -> Iterator[str]:
    name = path.relative_to(package).as_posix()
    room = _room(path.relative_to(package).with_suffix("").parts)
    if ast.get_docstring(tree) is None and path.read_text(encoding="utf-8").strip():
        yield f"{name} has no docstring"
    if room not in FLOOR:
        yield f"{room} is no room of docs/rooms.md"
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
    here, there = FLOOR[room], FLOOR.get(other, -1)
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
