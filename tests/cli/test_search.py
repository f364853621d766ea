"""`vox2vec search` and `vox2vec position`: what a person asks, and the files that come out."""

import csv

import numpy as np
import pytest
from PIL import Image

from tests.inference.scans import tiny_backbone
from tests.reading.dicom_files import write_series
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


def test_search_and_position_read_the_series_that_is_named(folder, tmp_path, capsys):
    for number in (0, 1):
        scan = phantom(number, spacing_mm=(12, 12, 12), axis_codes="LPS").volume
        stack = np.swapaxes(np.moveaxis(scan.image, -1, 0), 1, 2)  # slice, row, column
        x, y, z = scan.to_mm([0, 0, 0])
        options = {"PixelSpacing": [12, 12], "origin": (-x, -y, z), "step": (0, 0, 12)}
        write_series(tmp_path / "two" / str(number), stack, SeriesInstanceUID=f"1.{number}", **options)
    two, weights = tmp_path / "two", folder / "tiny.safetensors"
    point = phantom(1, spacing_mm=(12, 12, 12)).landmarks["left kidney lower pole"]
    words = ["search", two, "--point", *point, "--cache_dir", folder / "cache", "--every", "12", "--weights", weights]
    words += ["--index_dir", tmp_path / "index", "-o", tmp_path / "found.csv", "--precision", "32"]
    assert main([*map(str, words), "--series", "1.1"]) == 0
    with (tmp_path / "found.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["id"] == "p1"
    words = ["position", two, two, "-o", tmp_path / "curve.csv", "--weights", weights, "--precision", "32"]
    assert main([*map(str, words), "--series", "1.1", "--reference_series", "1.1"]) == 0
    with (tmp_path / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["z_mm"] for row in rows] == [row["reference_z_mm"] for row in rows]
    assert main([*map(str, words), "--series", "1.1"]) == 2
    assert "1.0" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["search", "position"])
def test_outputs_are_checked_before_the_work(command, folder, tmp_path, capsys):
    scan = str(folder / "scans" / "p1.nii.gz")
    more = ["--point", "0", "0", "0", "--cache_dir", str(folder / "cache")] if command == "search" else [scan]
    for output, message in (("found.txt", "must end in .csv"), ("no/found.csv", "must exist")):
        assert main([command, scan, *more, "-o", str(tmp_path / output)]) == 2
        assert message in capsys.readouterr().err
    words = [command, scan, *more, "-o", str(tmp_path / "found.csv"), "--figure", str(tmp_path / "found.jpeg")]
    assert main(words) == 2
    assert "must end in .png" in capsys.readouterr().err
