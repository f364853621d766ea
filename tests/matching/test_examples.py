"""A scan labelled by examples in one call: equal to the steps by hand, on the scan's own grid."""

import numpy as np
import pytest

from tests.inference.scans import tiny_backbone
from vox2vec import Volume, segment_by_examples
from vox2vec.data.phantom import phantom
from vox2vec.inference.embed import Embedder
from vox2vec.matching.examples import names_in
from vox2vec.matching.index import Index
from vox2vec.matching.neighbours import LabelledVoxels, labels_by_neighbours

CPU = {"precision": "32", "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone((16, 16, 16), spacing_mm=(12.0, 12.0, 12.0))


@pytest.fixture(scope="module")
def patients():
    return [phantom(seed, spacing_mm=(12, 12, 12), axis_codes="LPS") for seed in range(3)]


def test_it_is_the_steps_by_hand(backbone, patients):
    embedder = Embedder(backbone, **CPU)
    names = {6: "liver", 11: "pancreas"}
    parts = []
    for number, patient in enumerate(patients[:2]):
        embedding = embedder(patient.volume)
        truth = patient.labels.onto(embedding.grid, order=0, fill=0).image
        parts.append(LabelledVoxels.of(embedding, truth, names, seed=number))
    asked = embedder(patients[2].volume)
    found = labels_by_neighbours(Index.of(asked), LabelledVoxels.joined(parts), neighbours=5)
    wanted = Volume(found, asked.affine).onto(patients[2].volume, order=0, fill=0)
    examples = ((patient.volume, patient.labels) for patient in patients[:2])  # taken one by one
    labels = segment_by_examples(patients[2].volume, examples, backbone, names=names, neighbours=5, **CPU)
    np.testing.assert_array_equal(labels.image, wanted.image)
    np.testing.assert_array_equal(labels.affine, patients[2].volume.affine)
    assert labels.image.any()
    assert set(np.unique(labels.image)) <= {0, *names}


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
