"""The doors of DESIGN.md, as a user imports them."""

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import vox2vec


def test_the_doors_are_where_the_design_says():
    from vox2vec import vox2vec_contrastive, vox2vec_vicreg
    from vox2vec.nn.fpn import FPN3d

    for door in (vox2vec_contrastive, vox2vec_vicreg):
        (pretrained,) = inspect.signature(door).parameters.values()
        assert (pretrained.name, pretrained.kind, pretrained.default) == ("pretrained", pretrained.KEYWORD_ONLY, True)
    assert not inspect.signature(vox2vec.vox2vec_small).parameters
    first_three = list(inspect.signature(FPN3d).parameters.values())[:3]
    assert [(p.name, p.default) for p in first_three] == [("in_channels", 1), ("base_channels", 16), ("num_scales", 6)]
    assert list(inspect.signature(vox2vec.prepare).parameters) == ["volume", "recipe"]
    assert list(inspect.signature(vox2vec.embed).parameters)[:2] == ["volume", "backbone"]
    assert list(inspect.signature(vox2vec.match).parameters)[:3] == ["source", "points_mm", "target"]
    assert {"points_mm", "score", "mutual"} <= set(vox2vec.Matches.__dataclass_fields__)
    assert list(inspect.signature(vox2vec.Volume).parameters) == ["image", "affine"]
    for name in ("crop", "onto", "to_mm", "to_voxels", "save"):
        assert callable(getattr(vox2vec.Volume, name))
    for name in ("at", "similarity", "save", "load"):
        assert callable(getattr(vox2vec.Embedding, name))


def test_every_public_name_is_there_and_documented():
    for name in vox2vec.__all__:
        assert inspect.getdoc(getattr(vox2vec, name)), name


def test_the_package_opens_before_any_door_is_loaded():
    code = """
import json, sys
import vox2vec
loaded = [name for name in ("torch", "numpy", "nibabel", "vox2vec.volume") if name in sys.modules]
print(json.dumps([loaded, sorted(set(vox2vec.__all__) - set(dir(vox2vec)))]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], []]


def test_type_checkers_find_each_door_where_python_does():
    tree = ast.parse(Path(vox2vec.__file__).read_text(encoding="utf-8"))
    checked = {
        name.name: node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names
    }
    loaded = {name: file for file, names in vox2vec._FILES.items() for name in names}
    assert {name: file for name, file in checked.items() if file.startswith("vox2vec.")} == loaded
    assert sorted(loaded) == sorted(vox2vec.__all__)


def test_a_name_that_is_no_door_is_no_attribute():
    with pytest.raises(AttributeError, match="module 'vox2vec' has no attribute 'embedd'"):
        vox2vec.embedd  # noqa: B018
