"""`warmup_cache.py` and `vox2vec cache`, as a person meets them."""

import contextlib
import csv
import fcntl
import io
import os
import struct
import subprocess
import sys
import termios
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.data.sources import trees
from tests.reading.dicom_files import phantom, write_series
from vox2vec.cli.main import main
from vox2vec.data.cache import entries_in
from vox2vec.data.phantom import phantom as torso

ROOT = Path(__file__).parents[2]
COARSE = ["--spacing", "6", "6", "8", "--patch_size", "16", "16", "8"]


@pytest.fixture
def scans(tmp_path):
    """Two good scans, one with labels; a NaN; a gap; a localizer; a cut file."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for seed in (0, 1):
        patient = torso(seed, spacing_mm=(6, 6, 8), axis_codes="LPS")
        patient.volume.save(folder / f"p{seed}.nii.gz")
    patient.labels.save(folder / "p1_labels.nii.gz")
    bad = torso(2, spacing_mm=(8, 8, 9)).volume
    image = bad.image.astype(np.float32)
    image[3, 3, 3] = np.nan
    nibabel.save(nibabel.Nifti1Image(image, bad.affine), folder / "nan.nii.gz")
    (folder / "cut.nii.gz").write_bytes((folder / "p0.nii.gz").read_bytes()[:5000])
    write_series(folder / "gap", phantom(slices=9, rows=30, columns=30), SeriesInstanceUID="1.9.1")
    (folder / "gap" / "004.dcm").unlink()
    trees.localizer(folder / "scout", "1.9.2")
    return folder


def _warm(cache, *words):
    return main(["warmup-cache", "--cache_dir", str(cache), "--num_workers", "0", *COARSE, *map(str, words)])


def _report(cache):
    with (cache / "report.csv").open(newline="") as file:
        return {(row["what"], row["id"] or Path(row["path"]).name): row["reason"] for row in csv.DictReader(file)}


def test_good_scans_are_stored_bad_ones_reported_and_the_exit_code_says_so(scans, tmp_path, capsys):
    cache = tmp_path / "cache"
    assert _warm(cache, "--data_dir", scans) == 1
    assert [entry.id for entry in entries_in(cache)] == ["p0", "p1"]
    report = _report(cache)
    assert {key: reason for key, reason in report.items() if key[0] == "failed"}.keys() == {
        ("failed", "nan"),
        ("failed", "cut"),
        ("failed", "patient/1.9.1"),
    }
    assert "must hold finite HU" in report["failed", "nan"]
    assert "truncated or corrupt" in report["failed", "cut"]
    assert "evenly spaced" in report["failed", "patient/1.9.1"]
    assert "localizer" in report["left out", "scout (1.9.2)"]
    assert "2 CTs stored, 0 were there, 3 failed, 1 left out" in capsys.readouterr().out
    for name in ("nan.nii.gz", "cut.nii.gz"):
        (scans / name).unlink()
    for path in (scans / "gap").iterdir():
        path.unlink()
    assert _warm(cache, "--data_dir", scans) == 0
    assert "0 CTs stored, 2 were there, 0 failed" in capsys.readouterr().out


def test_labels_are_stored_on_demand(scans, tmp_path):
    cache = tmp_path / "cache"
    assert _warm(cache, "--data_dir", scans / "p0.nii.gz", "--labels") == 1
    assert "takes scans with labels" in _report(cache)["failed", "p0.nii.gz"]
    labels = tmp_path / "labels"
    labels.mkdir()
    (scans / "p1_labels.nii.gz").rename(labels / "p1.nii.gz")
    images = tmp_path / "images"
    images.mkdir()
    (scans / "p1.nii.gz").rename(images / "p1.nii.gz")
    assert _warm(cache, "--data_dir", images, "--label_dir", labels, "--labels") == 0
    (entry,) = entries_in(cache)
    assert set(entry.files) == {"image", "body", "labels"}


def test_no_data_set_means_phantoms_said_loudly(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("vox2vec.cli.arguments.Phantoms", lambda: Phantoms(2, spacing_mm=(8, 8, 10)))
    from vox2vec.data.sources.phantoms import Phantoms

    assert _warm(tmp_path / "cache") == 0
    assert "NO DATA SET WAS NAMED: taking 8 synthetic phantoms" in capsys.readouterr().err
    assert [entry.source for entry in entries_in(tmp_path / "cache")] == ["phantoms"] * 2


def test_the_manifest_lists_what_is_inside(scans, tmp_path, capsys):
    cache = tmp_path / "cache"
    _warm(cache, "--data_dir", scans)
    capsys.readouterr()
    assert main(["cache", "ls", str(cache)]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["source"], row["id"], row["spacing_mm"]) for row in rows] == [
        ("scans", "p0", "6x6x8"),
        ("scans", "p1", "6x6x8"),
    ]
    for row, entry in zip(rows, entries_in(cache), strict=True):
        assert row["shape"] == "x".join(map(str, entry.shape))
        assert float(row["body_fraction"]) == pytest.approx(entry.body_fraction, abs=1e-3)


def test_verify_finds_damage_and_prune_removes_it(scans, tmp_path, capsys):
    cache = tmp_path / "cache"
    _warm(cache, "--data_dir", scans)
    assert main(["cache", "verify", str(cache)]) == 0
    broken = entries_in(cache)[0]
    (cache / "scans" / broken.key / "image.b2nd").write_bytes(b"")
    assert main(["cache", "verify", str(cache)]) == 1
    assert f"{broken.key}: image.b2nd is not as written" in capsys.readouterr().out
    assert main(["cache", "prune", str(cache)]) == 0
    assert [entry.id for entry in entries_in(cache)] == ["p1"]
    assert not (cache / "refused").exists()
    assert main(["cache", "verify", str(cache)]) == 0
    assert main(["cache", "prune", str(cache), "--source", "scans"]) == 0
    assert entries_in(cache) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data_dir", "nowhere"], "nowhere does not exist"),
        (["--amos_dir", "nowhere"], "AMOS must be a folder"),
        (["--amid", "KiTS23"], "--amid takes NAME=DIR"),
        (["--labels_dir", "x"], "exactly one --data_dir, got 0"),
        (["--report", "no/such/report.csv"], "the folder of the output must exist"),
        (["--report", "report.txt"], "must end in .csv"),
        (["--num_workers", "-1"], "--num_workers must be 0 or more"),
        (["--spacing", "0", "1", "2"], "spacing_mm must be three positive numbers"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["warmup-cache", "--cache_dir", "cache", *words]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("vox2vec: error:"))
    assert message in line


def test_a_folder_that_is_no_cache_is_refused(tmp_path, capsys):
    assert main(["cache", "ls", str(tmp_path)]) == 2
    assert "is no cache" in capsys.readouterr().err


def test_the_script_is_the_command(scans, tmp_path):
    words = [
        "--cache_dir",
        str(tmp_path / "cache"),
        "--data_dir",
        str(scans / "p0.nii.gz"),
        "--num_workers",
        "1",
        *COARSE,
    ]
    terminal, end = os.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    done = subprocess.run(
        [sys.executable, str(ROOT / "warmup_cache.py"), *words],
        stdout=subprocess.PIPE,
        stderr=end,
        text=True,
        cwd=tmp_path,
    )
    os.close(end)
    assert done.returncode == 0
    assert "1 CTs stored" in done.stdout
    seen = b""
    with contextlib.suppress(OSError):  # the terminal's end
        while chunk := os.read(terminal, 10000):
            seen += chunk
    os.close(terminal)
    assert "warming up: 100%" in seen.decode()  # where a person looks on
    assert os.listdir(tmp_path / "cache" / "scans") == [entry.key for entry in entries_in(tmp_path / "cache")]
