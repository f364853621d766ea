"""A scan labelled by examples in one call: equal to the steps by hand, on the scan's own grid."""

import logging

import numpy as np
import pytest

from tests.inference.scans import tiny_backbone
from vox2vec import Volume, segment_by_examples, vox2vec_small
from vox2vec.data.phantom import phantom
from vox2vec.inference.embed import Embedder
from vox2vec.matching.atlas import Atlas, labels_by_atlases
from vox2vec.matching.examples import labels_by_examples, names_in
from vox2vec.matching.field import Field, NoField
from vox2vec.matching.index import Index
from vox2vec.matching.neighbours import LabelledVoxels, labels_by_neighbours
from vox2vec.metrics.overlap import dice

CPU = {"precision": "32", "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone((16, 16, 16), spacing_mm=(12.0, 12.0, 12.0))


@pytest.fixture(scope="module")
def patients():
    return [phantom(seed, spacing_mm=(12, 12, 12), axis_codes="LPS") for seed in range(3)]


@pytest.fixture(scope="module")
def known(backbone, patients):
    """The scan to be labelled, and two labelled ones on their prepared grids."""
    embedder = Embedder(backbone, **CPU)
    indices = [Index.of(embedder(patient.volume), average=True) for patient in patients]
    grids = [index.embedding.grid for index in indices]
    truths = [p.labels.onto(grid, order=0, fill=0).image for p, grid in zip(patients, grids, strict=True)]
    return indices[2], list(zip(indices[:2], truths[:2], strict=True))


def test_it_is_the_steps_by_hand(backbone, patients, known):
    names = {6: "liver", 11: "pancreas"}
    scan, examples = known
    found = labels_by_atlases(scan, [Atlas.of(scan, *example, names) for example in examples], near_mm=20)
    wanted = Volume(found, scan.embedding.affine).onto(patients[2].volume, order=0, fill=0)
    examples = ((patient.volume, patient.labels) for patient in patients[:2])  # taken one by one
    labels = segment_by_examples(patients[2].volume, examples, backbone, names=names, near_mm=20, **CPU)
    np.testing.assert_array_equal(labels.image, wanted.image)
    np.testing.assert_array_equal(labels.affine, patients[2].volume.affine)
    assert labels.image.any()
    assert set(np.unique(labels.image)) <= {0, *names}


def test_a_scan_without_a_field_is_passed_over_and_voxels_ask_those_most_like_them_where_none_is_left(
    known, monkeypatch, caplog
):
    names = {6: "liver", 11: "pancreas"}
    scan, (first, second) = known
    between = Field.between

    def few(source, target):
        if target is first[0]:
            raise NoField("too few matches")
        return between(source, target)

    monkeypatch.setattr(Field, "between", few)
    with caplog.at_level(logging.WARNING):
        found = labels_by_examples(scan, [first, second], names)
    np.testing.assert_array_equal(found, labels_by_atlases(scan, [Atlas.of(scan, *second, names)]))
    assert caplog.messages == ["labelled scan 1 is passed over: too few matches"]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        found = labels_by_examples(scan, [first], names)
    voxels = LabelledVoxels.of(first[0].embedding, first[1], names)
    np.testing.assert_array_equal(found, labels_by_neighbours(scan, voxels))
    assert "each voxel asks the labelled voxels most like it" in caplog.messages[1]


@pytest.mark.slow
def test_organs_of_a_patient_are_found_in_another_better_than_by_neighbours_alone():
    patients = [phantom(seed, spacing_mm=(3, 3, 3)) for seed in (0, 1)]
    embedder = Embedder(vox2vec_small(), device="cpu", progress=False)
    scan, example = (Index.of(embedder(patient.volume), average=True) for patient in patients)
    truth, known = (
        patient.labels.onto(index.embedding.grid, order=0, fill=0).image
        for patient, index in zip(patients, (scan, example), strict=True)
    )
    numbers = [int(n) for n in np.unique(known) if n]
    names = {n: str(n) for n in numbers}
    by_field = labels_by_examples(scan, [(example, known)], names)
    by_neighbours = labels_by_neighbours(scan, LabelledVoxels.of(example.embedding, known, names))
    means = [np.mean([dice(found == n, truth == n) for n in numbers]) for found in (by_field, by_neighbours)]
    assert means[0] > max(0.5, means[1])


def test_files_are_as_good_as_volumes_and_every_label_is_a_structure_by_default(backbone, patients, tmp_path):
    for name, volume in (("scan", patients[0].volume), ("labels", patients[0].labels), ("asked", patients[1].volume)):
        volume.save(tmp_path / f"{name}.nii.gz")
    paths = [(tmp_path / "scan.nii.gz", str(tmp_path / "labels.nii.gz"))]
    by_path = segment_by_examples(tmp_path / "asked.nii.gz", iter(paths), backbone, **CPU)
    names = {int(n): "any" for n in np.unique(patients[0].labels.image) if n}
    volumes = [(patients[0].volume, patients[0].labels)]
    by_value = segment_by_examples(patients[1].volume, volumes, backbone, names=names, **CPU)
    assert (by_path.image == by_value.image).mean() > 0.999  # HU are rounded in a file
    assert len(np.unique(by_path.image)) > 3


def test_names_are_those_of_the_labels_above_zero(patients):
    one, other = (Volume(np.array(n, np.int16).reshape(1, 1, -1), np.eye(4)) for n in ([0, 7, 2], [2, -1, 300]))
    assert names_in([one, other]) == {2: "label 2", 7: "label 7", 300: "label 300"}


def test_examples_that_show_nothing_are_refused(backbone, patients):
    with pytest.raises(ValueError, match="at least one labelled scan"):
        segment_by_examples(patients[0].volume, [], backbone, names={1: "spleen"}, **CPU)
    empty = Volume(np.zeros_like(patients[1].labels.image), patients[1].labels.affine)
    with pytest.raises(ValueError, match="labels are not all 0"):
        segment_by_examples(patients[0].volume, [(patients[1].volume, empty)], backbone, **CPU)
