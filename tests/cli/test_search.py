"""`vox2vec search` and `vox2vec position`: what a person asks, and the files that come out."""

import csv

import numpy as np
import pytest
from PIL import Image

from tests.inference.scans import tiny_backbone
from vox2vec import load_volume, save_backbone
from vox2vec.cli.main import main
from vox2vec.data.phantom import phantom


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cache of three phantoms, and the weights that it was prepared for."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "scans").mkdir()
    for seed in range(3):
        phantom(seed, spacing_mm=(12, 12, 12), axis_codes="LPS").volume.save(folder / "scans" / f"p{seed}.nii.gz")
    save_backbone(tiny_backbone((16, 16, 16), spacing_mm=(12, 12, 12)), folder / "tiny.safetensors")
    words = ["--data_dir", folder / "scans", "--cache_dir", folder / "cache", "--num_workers", "0"]
    assert (
        main(["warmup-cache", *map(str, words), *["--spacing", "12", "12", "12", "--patch_size", "16", "16", "16"]])
        == 0
    )
    return folder


def _search(folder, tmp_path, *more):
    point = [f"{value:.1f}" for value in phantom(1, spacing_mm=(12, 12, 12)).landmarks["left kidney lower pole"]]
    words = ["search", folder / "scans" / "p1.nii.gz", "--point", *point, "--cache_dir", folder / "cache"]
    words += ["--index_dir", tmp_path / "index", "-o", tmp_path / "found.csv", "--every", "12"]
    return main([*map(str, words), "--weights", str(folder / "tiny.safetensors"), "--precision", "32", *more])


def test_the_place_itself_is_the_most_similar(folder, tmp_path, capsys):
    assert _search(folder, tmp_path, "--count", "5", "--figure", str(tmp_path / "found.png")) == 0
    assert "5 places in " in capsys.readouterr().out
    with (tmp_path / "found.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert rows[0]["id"] == "p1"
    assert scores[0] == pytest.approx(1, abs=1e-2)
    found = np.array([float(rows[0][axis]) for axis in "xyz"])
    assert (
        np.abs(found - phantom(1, spacing_mm=(12, 12, 12)).landmarks["left kidney lower pole"]).max() <= 24
    )  # two voxels
    assert np.asarray(Image.open(tmp_path / "found.png").convert("RGB")).std() > 10
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "index").glob("*/*")}
    assert len(before) == 6
    assert _search(folder, tmp_path, "--radius", "20") == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "index").glob("*/*")} == before


def test_a_place_in_air_and_a_cache_of_another_recipe_are_refused(folder, tmp_path, capsys):
    words = ["search", folder / "scans" / "p1.nii.gz", "--point", "5000", "0", "0", "-o", tmp_path / "found.csv"]
    words += ["--weights", folder / "tiny.safetensors", "--cache_dir"]
    assert main([*map(str, words), str(folder / "cache")]) == 2
    assert "all points must lie in the body" in capsys.readouterr().err
    assert main([*map(str, words), str(tmp_path / "none")]) == 2
    assert "run vox2vec warmup-cache with --spacing 12 12 12" in capsys.readouterr().err


def test_a_scan_lies_in_itself_where_it_is(folder, tmp_path, capsys):
    scan, out = folder / "scans" / "p2.nii.gz", tmp_path / "curve.csv"
    words = ["position", scan, scan, "-o", out, "--figure", tmp_path / "curve.png", "--every", "24"]
    assert main([*map(str, words), "--weights", str(folder / "tiny.safetensors"), "--precision", "32"]) == 0
    assert "mm of the reference" in capsys.readouterr().out
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 10
    z, reference = ([float(row[name]) for row in rows] for name in ("z_mm", "reference_z_mm"))
    np.testing.assert_allclose(reference, z, atol=1e-6)
    bottom, top = (load_volume(scan).to_mm([[0, 0, 0], np.array(load_volume(scan).shape) - 1]))[:, 2]
    assert min(bottom, top) <= min(z) <= max(z) <= max(bottom, top)
    assert np.asarray(Image.open(tmp_path / "curve.png").convert("RGB")).std() > 10
