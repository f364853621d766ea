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


def test_in_a_folder_that_is_read_new_files_may_be_written_but_no_scan_replaced(scan, tmp_path):
    assert checked_output(tmp_path / "new.nii.gz", inputs=[tmp_path]) == tmp_path / "new.nii.gz"
    with pytest.raises(ValueError, match=r"must replace no scan in a folder that is read, .*scan.nii.gz is in"):
        checked_output(scan, inputs=[tmp_path])


@pytest.mark.parametrize("name", ["out.safetensors", "out.csv", "out.fcsv", "out.json", "OUT.PNG"])
def test_an_earlier_result_in_a_folder_that_is_read_may_be_replaced(name, tmp_path):
    (tmp_path / "001.dcm").write_bytes(b"a slice")
    (tmp_path / name).write_bytes(b"of an earlier run")
    assert checked_output(tmp_path / name, inputs=[tmp_path]) == tmp_path / name
    with pytest.raises(ValueError, match="must differ from what is read"):
        checked_output(tmp_path / name, inputs=[tmp_path, tmp_path / name])


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.dcm", "IM0001", "a.nrrd", "a.mha", "a.csv.gz"])
def test_whatever_could_be_a_scan_of_a_folder_that_is_read_may_not(name, tmp_path):
    (tmp_path / name).write_bytes(b"a scan")
    with pytest.raises(ValueError, match="must replace no scan in a folder that is read"):
        checked_output(tmp_path / name, inputs=[tmp_path])


def test_a_slice_that_is_named_as_a_result_is_known_by_what_it_holds(tmp_path):
    (tmp_path / "slice.csv").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(ValueError, match="must replace no scan in a folder that is read"):
        checked_output(tmp_path / "slice.csv", suffixes=[".csv"], inputs=[tmp_path])


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_link_in_a_folder_that_is_read_to_the_output_or_from_it_is_found(link, tmp_path):
    series = tmp_path / "dicom" / "deep"
    series.mkdir(parents=True)
    (tmp_path / "out.safetensors").write_bytes(b"read by another name")
    link(tmp_path / "out.safetensors", series / "001.dcm")
    (series / "002.dcm").write_bytes(b"a slice")
    link(series / "002.dcm", series / "other.safetensors")
    for output in (tmp_path / "out.safetensors", series / "other.safetensors"):
        with pytest.raises(ValueError, match="must replace no scan in a folder that is read"):
            checked_output(output, suffixes=[".safetensors"], inputs=[tmp_path / "dicom"])
    (tmp_path / "free.safetensors").write_bytes(b"read by nobody")
    checked_output(tmp_path / "free.safetensors", inputs=[tmp_path / "dicom"])


def test_a_linked_folder_in_a_folder_that_is_read_belongs_to_it(tmp_path):
    (tmp_path / "dicom").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "dicom" / "series").symlink_to(tmp_path / "store")
    for name in ("001.dcm", "out.csv"):
        (tmp_path / "store" / name).write_bytes(b"there")
    with pytest.raises(ValueError, match="must replace no scan in a folder that is read"):
        checked_output(tmp_path / "store" / "001.dcm", inputs=[tmp_path / "dicom"])
    checked_output(tmp_path / "store" / "out.csv", inputs=[tmp_path / "dicom"])


def test_a_file_that_this_user_may_not_write_is_told_whatever_its_mode_says(tmp_path, monkeypatch):
    (tmp_path / "kept.csv").touch()
    checked_output(tmp_path / "kept.csv")
    refused = {(tmp_path / "kept.csv", os.W_OK)}  # root may write everything, so the system's answer is stood in for
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) not in refused)
    with pytest.raises(ValueError, match=r"kept.csv is read-only; take another name"):
        checked_output(tmp_path / "kept.csv")


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
