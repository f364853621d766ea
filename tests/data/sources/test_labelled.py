"""Labelled CTs alone, as far as they are there."""

import numpy as np
import pytest

from vox2vec.data.sources.labelled import labelled_data, msd_tasks, papers_sets, read_names
from vox2vec.volume import Volume


@pytest.fixture
def scans(tmp_path):
    """Two scans, one of them with labels beside it."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("a", "b", "a_labels"):
        Volume(np.zeros((3, 3, 3), np.int16), np.eye(4)).save(folder / f"{name}.nii.gz")
    return folder


def test_scans_without_labels_are_left_out_and_names_come_from_the_file(scans, tmp_path):
    assert labelled_data(scans).ids == labelled_data(scans, labels=scans).ids == ["a"]
    (tmp_path / "names.json").write_text('{"Leber": 2}')
    assert labelled_data(scans, names=tmp_path / "names.json").label_names == {2: "Leber"}
    (scans / "a_labels.nii.gz").unlink()
    with pytest.raises(ValueError, match="must hold scans with labels, none of its 2 scans has any"):
        labelled_data(scans)


def test_of_the_papers_sets_those_count_that_are_there_and_of_all_tasks_all_must_be(tmp_path):
    assert papers_sets(None, None) == papers_sets(None, tmp_path) == {}
    with pytest.raises(ValueError, match="MSD must be a task's folder or tar"):
        msd_tasks(tmp_path)


@pytest.mark.parametrize(("text", "message"), [("no", "must be a JSON file like"), ("{}", "at least one")])
def test_a_file_without_names_is_refused(text, message, tmp_path):
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_names(tmp_path / "names.json")
