"""What commands share: files to write are checked before the work, and flags have one name with the published alias."""

import argparse
import os
import sys
from pathlib import Path

import pytest

from tests.inference.scans import blob
from vox2vec.cli import arguments
from vox2vec.cli.arguments import checked_folder, checked_output
from vox2vec.cli.main import main


@pytest.fixture
def scan(tmp_path):
    blob((24, 20, 12), 0).save(tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_a_scan_is_not_overwritten_by_its_embedding(scan, capsys):
    before = scan.read_bytes()
    assert main(["embed", str(scan), "-o", str(scan), "--weights", "small"]) == 2
    assert scan.read_bytes() == before
    assert "must end in .safetensors, got scan.nii.gz" in capsys.readouterr().err


def test_weights_are_not_overwritten_by_what_they_embed(scan, tmp_path, capsys):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"weights")
    (tmp_path / "out.safetensors").symlink_to(weights)
    for out in (weights, tmp_path / "out.safetensors"):
        assert main(["embed", str(scan), "-o", str(out), "--weights", str(weights)]) == 2
        assert weights.read_bytes() == b"weights"
        assert "must differ from what is read" in capsys.readouterr().err


def test_a_list_of_scans_is_not_overwritten_by_the_report_on_it(scan, tmp_path, capsys):
    listed = tmp_path / "list.csv"
    listed.write_text("image\nscan.nii.gz\n", encoding="utf-8")
    words = ["--cache_dir", str(tmp_path / "cache"), "--data_dir", str(listed), "--report", str(listed)]
    assert main(["warmup-cache", *words]) == 2
    assert listed.read_text(encoding="utf-8") == "image\nscan.nii.gz\n"
    assert "must differ from what is read" in capsys.readouterr().err


@pytest.mark.parametrize("link", [os.symlink, os.link, lambda source, name: None])
def test_an_input_is_known_by_any_of_its_names(link, scan, tmp_path):
    other = tmp_path / "other.nii.gz"
    link(scan, other)
    names = [other] if other.exists() else [scan, tmp_path / "nowhere" / ".." / "scan.nii.gz"]
    for name in names:
        with pytest.raises(ValueError, match=r"must differ from what is read|folder of the output must exist"):
            checked_output(name, suffixes=[".nii", ".nii.gz"], inputs=[None, "contrastive", scan])


def test_an_input_that_is_yet_to_come_is_known_too(tmp_path):
    with pytest.raises(ValueError, match="must differ from what is read"):
        checked_output(tmp_path / "a.csv", inputs=[tmp_path / "." / "a.csv"])


def test_in_a_folder_that_is_read_new_files_may_be_written_but_none_replaced(scan, tmp_path):
    assert checked_output(tmp_path / "new.nii.gz", inputs=[tmp_path]) == tmp_path / "new.nii.gz"
    with pytest.raises(ValueError, match=r"must replace nothing in a folder that is read, .*scan.nii.gz is in"):
        checked_output(scan, inputs=[tmp_path])
    elsewhere = tmp_path.parent / f"{tmp_path.name}_elsewhere.nii.gz"
    os.link(scan, elsewhere)
    with pytest.raises(ValueError, match=r"must replace nothing in a folder that is read"):
        checked_output(elsewhere, inputs=[tmp_path])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.nii", "must end in .csv or .json, got out.nii"),
        ("there.csv", "must be a file, .*there.csv is a folder"),
        ("kept.csv", "kept.csv is read-only; take another name"),
    ],
)
def test_what_cannot_be_written_is_told_before_the_work(name, message, tmp_path):
    (tmp_path / "there.csv").mkdir()
    (tmp_path / "kept.csv").touch()
    (tmp_path / "kept.csv").chmod(0o444)
    with pytest.raises(ValueError, match=message):
        checked_output(tmp_path / name, suffixes=[".csv", ".json"])


def test_a_folder_that_is_missing_or_takes_no_files_is_told_before_the_work(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder of the output must exist, .*no does not; make it first"):
        checked_output(tmp_path / "no" / "a.csv")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"must be a folder, .*file is a file"):
        checked_folder(tmp_path / "file" / "figures")
    if sys.platform == "linux":
        for check, place in ((checked_output, Path("/proc/a.csv")), (checked_folder, Path("/proc/figures"))):
            with pytest.raises(ValueError, match="/proc must be a folder that files can be written to"):
                check(place)


def test_checking_leaves_nothing_behind(tmp_path):
    checked_output(tmp_path / "a.csv")
    checked_folder(tmp_path / "figures" / "of" / "today")
    assert list(tmp_path.iterdir()) == []


def test_every_published_flag_is_another_name_of_the_one():
    parser = argparse.ArgumentParser()
    arguments.add_weights(parser, alias_ckpt=True)
    arguments.add_device(parser, training=True)
    arguments.add_sources(parser)
    for words in ("--ckpt small --accelerator gpu --label_dir l", "--weights small --device gpu --labels_dir l"):
        found = parser.parse_args(words.split())
        assert (found.weights, found.device, found.labels_dir) == ("small", "gpu", Path("l"))
