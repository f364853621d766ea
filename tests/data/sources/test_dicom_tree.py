"""A tree of series of every kind: each read rightly, or refused by name, and the rest goes on."""

import numpy as np
import pytest

from tests.data.scans import RECIPE
from tests.data.sources import trees
from tests.reading.dicom_files import phantom, write_series
from vox2vec.data.cache import Cache
from vox2vec.data.sources.dicom_tree import dicom_tree
from vox2vec.data.warm_up import warm_up
from vox2vec.preprocessing.orientation import canonical

PRONE = (-1, 0, 0, 0, -1, 0)
FEET_FIRST = (-1, 0, 0, 0, 1, 0)


@pytest.fixture
def tree(tmp_path):
    """One patient in four postures, and four series that are no volume; slices of 20x24 pixels."""
    stack = phantom(slices=9, rows=20, columns=24, low=-1000)
    postures = {
        "supine": ((1, 0, 0, 0, 1, 0), stack, (0, 0, 0), (0, 0, 3)),
        "prone": (PRONE, stack[:, ::-1, ::-1], (0.75 * 23, 2 * 19, 0), (0, 0, 3)),
        "feet_first": (FEET_FIRST, stack[:, :, ::-1], (0.75 * 23, 0, 0), (0, 0, 3)),
        "downwards": ((1, 0, 0, 0, 1, 0), stack[::-1], (0, 0, 24), (0, 0, -3)),
    }
    for number, (name, (orientation, pixels, origin, step)) in enumerate(postures.items()):
        write_series(
            tmp_path / "p" / name,
            np.ascontiguousarray(pixels),
            orientation=orientation,
            origin=origin,
            step=step,
            SeriesInstanceUID=f"1.{number}",
            SeriesDescription=name,
        )
    write_series(tmp_path / "p" / "gap", stack, SeriesInstanceUID="2.1")
    (tmp_path / "p" / "gap" / "004.dcm").unlink()
    write_series(tmp_path / "p" / "copies", stack, SeriesInstanceUID="2.2")
    (tmp_path / "p" / "copies" / "again.dcm").write_bytes((tmp_path / "p" / "copies" / "003.dcm").read_bytes())
    write_series(tmp_path / "p" / "conflict", stack, SeriesInstanceUID="2.3")
    write_series(tmp_path / "p" / "conflict" / "x", stack[:1] + 7, origin=(0, 0, 6), SeriesInstanceUID="2.3")
    trees.localizer(tmp_path / "p" / "scout", "2.4")
    trees.series(tmp_path / "p" / "single", "2.5", slices=1)
    return tmp_path


def test_one_patient_in_any_posture_is_the_same_volume(tree):
    source = dicom_tree(tree)
    supine = canonical(source.load("patient/1.0"))
    for number in (1, 2, 3):
        posture = canonical(source.load(f"patient/1.{number}"))
        np.testing.assert_array_equal(posture.image, supine.image)
        np.testing.assert_allclose(posture.affine, supine.affine, rtol=0, atol=1e-6)


def test_copies_of_a_slice_are_dropped_and_what_is_no_volume_is_refused_by_name(tree):
    source = dicom_tree(tree)
    np.testing.assert_array_equal(source.load("patient/2.2").image, source.load("patient/1.0").image)
    with pytest.raises(ValueError, match=r"2\.1 .* must be evenly spaced, got gaps of 3\.00 mm and 6\.00 mm"):
        source.load("patient/2.1")
    with pytest.raises(ValueError, match=r"2\.3 "):
        source.load("patient/2.3")
    reasons = {item.path.rpartition("/")[2]: item.reason.split(",")[0] for item in source.left_out}
    assert reasons == {
        "scout (2.4)": "it is a localizer (scout)",
        "single (2.5)": "it holds a single slice",
    }


def test_a_warm_up_of_such_a_tree_goes_on_to_its_end(tree, tmp_path):
    report = warm_up(Cache(tmp_path / "cache", RECIPE), [dicom_tree(tree)], num_workers=0, progress=False)
    assert report.stored == 5
    assert [failure.id for failure in report.failed] == ["patient/2.1", "patient/2.3"]
    assert len(report.left_out) == 2
