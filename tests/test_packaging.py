"""What a non-editable install holds."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def test_a_built_wheel_holds_every_module_the_marker_of_types_and_the_command(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "vox2vec", source / "vox2vec", ignore=shutil.ignore_patterns("__pycache__"))
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        (entry_points,) = (name for name in held if name.endswith("entry_points.txt"))
        assert "vox2vec = vox2vec.cli.main:main" in archive.read(entry_points).decode()
    wanted = {path.relative_to(ROOT).as_posix() for path in (ROOT / "vox2vec").rglob("*.py")}
    assert wanted | {"vox2vec/py.typed"} <= held
    assert not any(name.startswith(("tests", "benchmarks")) for name in held)


def test_a_clone_that_is_not_installed_knows_its_version():
    """As `python pretrain.py` in one: no metadata of the package is anywhere."""
    code = """
import importlib.metadata
installed = importlib.metadata.version
def version(name):
    if name == "vox2vec":
        raise importlib.metadata.PackageNotFoundError(name)
    return installed(name)
importlib.metadata.version = version
import vox2vec
print(vox2vec.__version__)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert f'version = "{done.stdout.strip()}"' in (ROOT / "pyproject.toml").read_text()


def test_the_minimal_set_pins_the_lowest_versions_that_the_project_admits():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = (\[.*?^\])", project, re.MULTILINE | re.DOTALL)[1]
    needed = [Requirement(text) for text in ast.literal_eval(listed)]
    lowest = {
        need.name: next(Version(bound.version) for bound in need.specifier if bound.operator == ">=")
        for need in needed
        if need.name != "torch" and (need.marker is None or need.marker.evaluate({"python_version": "3.11"}))
    }
    minimal = (ROOT / "tests" / "minimal-requirements.txt").read_text(encoding="utf-8")
    pinned = {name: Version(number) for name, number in re.findall(r"^([\w-]+)==([\d.]+)$", minimal, re.MULTILINE)}
    assert {name: pinned.get(name) for name in lowest} == lowest
