"""`vox2vec match`: the list that comes in, the list that goes out."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from tests.inference.scans import blob
from tests.reading.dicom_files import write_series
from vox2vec import FPN3d, embed, load_backbone, load_volume, match, save_backbone
from vox2vec.cli.main import main
from vox2vec.matching.index import Index
from vox2vec.reading.points import Points, read_points, write_points
from vox2vec.recipe import Recipe
from vox2vec.volume import Volume


def _smooth(seed):
    """A body whose HU change over several voxels, as anatomy does."""
    noise = blob((44, 40, 24), seed)
    smooth = gaussian_filter(noise.image.astype(np.float32), 2)
    return Volume((150 * (smooth - smooth.mean()) / smooth.std()).astype(np.int16), noise.affine)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("match")
    torch.manual_seed(0)
    backbone = FPN3d(base_channels=4, num_scales=3)
    backbone.recipe = Recipe(patch_size=(16, 16, 8))
    save_backbone(backbone, folder / "tiny.safetensors")
    _smooth(0).save(folder / "scan.nii.gz")
    return folder


@pytest.mark.parametrize(
    ("name", "system"), [("p.csv", "RAS"), ("p.csv", "LPS"), ("p.fcsv", "LPS"), ("p.mrk.json", "RAS")]
)
def test_points_return_in_their_own_system_with_what_is_known_of_them(name, system, files, tmp_path, capsys):
    """A scan against itself: each point is found where it is."""
    grid = load_volume(files / "scan.nii.gz")
    places = np.concatenate([grid.to_mm([[12, 9, 8], [20, 15, 12]]), [[500.0, 0, 0]]])
    write_points(Points(["a", "b", "far"], places, system), tmp_path / name)
    out = tmp_path / "out.csv"
    scan = str(files / "scan.nii.gz")
    words = ["match", scan, scan, "--points", str(tmp_path / name), "-o", str(out), "--precision", "32"]
    words += ["--weights", str(files / "tiny.safetensors"), "--figure", str(tmp_path / "figures"), "--num_figures", "1"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert f"2 of 3 points matched, 2 mutually, 0 outliers; {system} millimetres" in told
    assert "far: outside the scan of the source" in told
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["matched", "matched", "outside the scan"]
    assert {row["system"] for row in rows} == {system}
    found = np.array([[float(row[axis]) for axis in "xyz"] for row in rows[:2]])
    np.testing.assert_allclose(found * ([-1, -1, 1] if system == "LPS" else 1), places[:2], atol=1.5)
    assert [float(row["score"]) for row in rows[:2]] == pytest.approx([1, 1], abs=1e-3)
    (picture,) = (tmp_path / "figures").iterdir()
    assert np.asarray(Image.open(picture).convert("RGB")).std() > 10


def test_lesions_with_truth_get_both_published_scores(files, tmp_path, capsys):
    """A scan against itself, with one truth 8 mm off: within 10 mm, not within its radius."""
    grid = load_volume(files / "scan.nii.gz")
    places = grid.to_mm([[12, 9, 8], [20, 15, 12]])
    write_points(Points(["a", "b"], places, "RAS"), tmp_path / "p.csv")
    rows = [f"{name},{x},{y + off},{z},5" for name, (x, y, z), off in zip("ab", places, (0, 8), strict=True)]
    (tmp_path / "truth.csv").write_text("\n".join(["name,x,y,z,radius", *rows]))
    scan = str(files / "scan.nii.gz")
    words = ["match", scan, scan, "--points", str(tmp_path / "p.csv"), "-o", str(tmp_path / "out.csv")]
    words += ["--truth", str(tmp_path / "truth.csv"), "--weights", str(files / "tiny.safetensors"), "--precision", "32"]
    assert main(words) == 0
    assert "2 with truth: 100.0% within 10 mm, 50.0% within min(radius, 10 mm)" in capsys.readouterr().out


def test_matches_go_to_slicers_files_too(files, tmp_path):
    grid = load_volume(files / "scan.nii.gz")
    write_points(Points(["a"], grid.to_mm([[12, 9, 8]]), "LPS"), tmp_path / "p.mrk.json")
    scan, out = str(files / "scan.nii.gz"), tmp_path / "out.mrk.json"
    words = ["match", scan, scan, "--points", str(tmp_path / "p.mrk.json"), "-o", str(out)]
    assert main([*words, "--weights", str(files / "tiny.safetensors"), "--precision", "32"]) == 0
    assert read_points(out).system == "LPS"
    np.testing.assert_allclose(read_points(out).points_mm, grid.to_mm([[12, 9, 8]]), atol=1.5)


def test_level_weights_are_those_of_the_index_and_checked_before_anything_is_embedded(files, tmp_path, capsys):
    _smooth(1).save(tmp_path / "other.nii.gz")
    volumes = [load_volume(path) for path in (files / "scan.nii.gz", tmp_path / "other.nii.gz")]
    places = volumes[0].to_mm([[12, 9, 8], [20, 15, 12]])
    write_points(Points(["a", "b"], places, "RAS"), tmp_path / "p.csv")
    words = ["match", str(files / "scan.nii.gz"), str(tmp_path / "other.nii.gz"), "--points", str(tmp_path / "p.csv")]
    words += ["-o", str(tmp_path / "out.csv"), "--weights", str(files / "tiny.safetensors"), "--precision", "32"]
    assert main([*words, "--level_weights", "0", "0.5", "1"]) == 0
    backbone = load_backbone(files / "tiny.safetensors")
    source, target = (
        Index.of(embed(v, backbone, precision="32", progress=False), weights=[0, 0.5, 1], average=True) for v in volumes
    )
    expected = match(source, places, target, scans=tuple(volumes))
    unweighted = match(source.embedding, places, target.embedding, scans=tuple(volumes))
    np.testing.assert_allclose(read_points(tmp_path / "out.csv").points_mm, expected.points_mm, atol=0.01)
    assert not np.allclose(expected.points_mm, unweighted.points_mm, atol=0.01)
    assert main([*words, "--level_weights", "1", "1"]) == 2
    assert "one for each of the 3 levels" in capsys.readouterr().err


def test_each_scan_of_a_folder_of_several_series_has_a_flag(files, tmp_path, capsys):
    for number in (1, 2):
        stack = np.moveaxis(blob((30, 26, 20), number).image, -1, 0)
        write_series(tmp_path / "two" / str(number), stack, SeriesInstanceUID=f"1.{number}", PixelSpacing=[1, 1])
    scan = load_volume(tmp_path / "two", series="1.2")
    write_points(Points(["a"], scan.to_mm([[12, 9, 8]]), "RAS"), tmp_path / "p.csv")
    two, out = str(tmp_path / "two"), tmp_path / "out.csv"
    words = ["match", two, two, "--alone", "--points", str(tmp_path / "p.csv"), "-o", str(out)]
    words += ["--weights", str(files / "tiny.safetensors"), "--precision", "32"]
    found = {}
    for target in ("1.1", "1.2"):
        assert main([*words, "--series", "1.2", "--target_series", target]) == 0
        with out.open(newline="") as file:
            found[target] = next(csv.DictReader(file))
    np.testing.assert_allclose([float(found["1.2"][axis]) for axis in "xyz"], scan.to_mm([12, 9, 8]), atol=1.5)
    assert [found["1.1"][axis] for axis in "xyz"] != [found["1.2"][axis] for axis in "xyz"]
    capsys.readouterr()
    assert main([*words, "--series", "1.2"]) == 2
    assert "1.1" in capsys.readouterr().err


def test_what_is_read_is_not_written_over(files, tmp_path, capsys):
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
    scan, points = str(files / "scan.nii.gz"), str(tmp_path / "p.csv")
    assert main(["match", scan, scan, "--points", points, "-o", points]) == 2
    assert "must differ from what is read" in capsys.readouterr().err
    assert (tmp_path / "p.csv").read_text() == "x,y,z\n1,2,3\n"


@pytest.mark.parametrize(
    ("out", "message"), [("out.txt", "must end in .csv or .fcsv or .json"), ("no/out.csv", "must exist")]
)
def test_bad_output_is_refused_before_anything_is_computed(out, message, tmp_path, capsys):
    assert main(["match", "a.nii.gz", "b.nii.gz", "--points", "p.csv", "-o", str(tmp_path / out)]) == 2
    assert message in capsys.readouterr().err
