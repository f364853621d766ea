"""The scripts of examples/, run as a reader runs them, on phantoms."""

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from vox2vec import Embedding, FPN3d, load_backbone, load_volume, save_backbone
from vox2vec.data.phantom import phantom
from vox2vec.recipe import Recipe

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    (folder / "scans").mkdir()
    for seed in range(2):
        patient = phantom(seed, spacing_mm=(12, 12, 12))
        patient.volume.save(folder / "scans" / f"p{seed}.nii.gz")
        patient.labels.save(folder / f"labels{seed}.nii.gz")
    torch.manual_seed(0)
    backbone = FPN3d(base_channels=2, num_scales=3)
    backbone.recipe = Recipe(spacing_mm=(12, 12, 12), patch_size=(16, 16, 16))
    save_backbone(backbone, folder / "tiny.safetensors")
    return folder


def _run(name, *words, folder):
    command = [sys.executable, str(EXAMPLES / name), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _liver(seed=0):
    return phantom(seed, spacing_mm=(12, 12, 12)).landmarks["liver"].round(1).tolist()


def test_features(folder):
    told = _run("features.py", "scans/p0.nii.gz", *_liver(), "--weights", "tiny.safetensors", folder=folder)
    assert "has 14 numbers, of 3 levels" in told
    assert Embedding.load(folder / "features.safetensors").num_channels == 14
    assert np.nanmax(nibabel.load(folder / "similarity.nii.gz").get_fdata()) == pytest.approx(1, abs=1e-3)


def test_matching(folder):
    scans = "scans/p0.nii.gz", "scans/p0.nii.gz"
    told = _run("matching.py", *scans, *_liver(), "--weights", "tiny.safetensors", folder=folder)
    assert told.startswith("matched: ")
    assert "similarity 1.00" in told
    assert "mutual" in told
    assert np.asarray(Image.open(folder / "match.png").convert("RGB")).std() > 10


def test_few_shot(folder):
    """A scan that is its own example."""
    words = "scans/p1.nii.gz", "scans/p1.nii.gz", "labels1.nii.gz", "--weights", "tiny.safetensors"
    told = _run("few_shot.py", *words, folder=folder)
    assert "label 6: " in told
    found, truth = nibabel.load(folder / "labels.nii.gz"), nibabel.load(folder / "labels1.nii.gz")
    np.testing.assert_allclose(found.affine, load_volume(folder / "scans" / "p1.nii.gz").affine)
    liver, true = (np.asanyarray(image.dataobj) == 6 for image in (found, truth))
    assert 2 * (liver & true).sum() / (liver.sum() + true.sum()) > 0.7


def test_own_pretraining(folder):
    told = _run("own_pretraining.py", "scans", "--max_steps", "2", folder=folder)
    assert "parameters, for scans of (4.0, 4.0, 4.0) mm" in told
    assert load_backbone(folder / "run" / "backbone.safetensors").num_scales == 4
