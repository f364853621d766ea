"""`vox2vec register`: what it writes, and what it refuses."""

import csv

import nibabel
import numpy as np
import pytest

from vox2vec import load_volume
from vox2vec.cli.main import main
from vox2vec.data.phantom import phantom
from vox2vec.reading.points import Points, write_points


@pytest.mark.slow
def test_a_scan_on_itself_stays_with_its_labels_and_points(tmp_path, capsys):
    patient = phantom(0, spacing_mm=(4, 4, 4))
    patient.volume.save(tmp_path / "scan.nii.gz")
    patient.labels.save(tmp_path / "labels.nii.gz")
    places = np.array([patient.landmarks["liver"], [999.0, 0, 0]])
    write_points(Points(["liver", "far"], places, "LPS"), tmp_path / "p.csv")
    scan = str(tmp_path / "scan.nii.gz")
    words = ["register", scan, scan, "-o", str(tmp_path / "out.nii.gz"), "--weights", "small"]
    words += ["--labels", str(tmp_path / "labels.nii.gz"), "--points", str(tmp_path / "p.csv")]
    words += ["--field", str(tmp_path / "field.nii.gz"), "--figure", str(tmp_path / "figures")]
    assert main(words) == 0
    assert "0.00% folds" in capsys.readouterr().out
    moved = load_volume(tmp_path / "out.nii.gz")
    assert np.abs(moved.image - patient.volume.image).mean() < 30
    labels = np.asarray(nibabel.load(tmp_path / "out_labels.nii.gz").dataobj)
    assert np.mean(labels == patient.labels.image) > 0.97
    with (tmp_path / "out_points.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["supported"] for row in rows] == ["yes", "no"]
    assert {row["system"] for row in rows} == {"LPS"}
    found = np.array([float(rows[0][axis]) for axis in "xyz"]) * [-1, -1, 1]
    np.testing.assert_allclose(found, places[0], atol=3)
    field = nibabel.load(tmp_path / "field.nii.gz")
    assert (field.ndim, field.shape[3:], int(field.header["intent_code"])) == (5, (1, 3), 1007)
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "before_and_after.png", "checkerboard.png", "grid.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "flag", "message"), [("out.png", None, "must end in"), ("out.nii.gz", "--field", "must end in")]
)
def test_bad_outputs_are_refused_before_anything_is_read(name, flag, message, tmp_path, capsys):
    words = ["register", "a.nii.gz", "b.nii.gz", "-o", str(tmp_path / name)]
    assert main(words + ([flag, str(tmp_path / "field.txt")] if flag else [])) == 2
    assert message in capsys.readouterr().err
