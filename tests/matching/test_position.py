"""Where each slice lies: exact for a scan cut out of its reference, and monotone where the body repeats itself."""

import numpy as np
import pytest

from vox2vec.matching.index import Index
from vox2vec.matching.position import AxialPosition, axial_position


def test_a_scan_lies_where_it_is_in_itself(embeddings):
    curve = axial_position(embeddings[0], embeddings[0], every_mm=6, voxels_per_slice=9)
    assert len(curve.slices_mm) == 5
    np.testing.assert_allclose(curve.reference_mm, curve.slices_mm, atol=1e-6)
    np.testing.assert_allclose(curve.fitted_mm, curve.slices_mm, atol=1e-6)
    np.testing.assert_allclose(curve.spread_mm, 0, atol=1e-6)


def test_the_curve_does_not_turn_back_and_is_the_median(embeddings):
    scan, reference = embeddings
    allowed = np.zeros(scan.shape, bool)
    allowed[5:17, 4:15, 3:] = True
    curve = axial_position(Index.of(scan, among=allowed), reference, every_mm=1, voxels_per_slice=10**6)
    assert (np.diff(curve.fitted_mm) >= -1e-9).all()
    index = Index.of(reference)
    heights = scan.grid.affine[2, 3] + scan.grid.affine[2, 2] * np.arange(scan.shape[2])
    np.testing.assert_allclose(curve.slices_mm, heights[allowed.any(axis=(0, 1)) & scan.has_vector().any(axis=(0, 1))])
    z = int(np.argmin(abs(heights - curve.slices_mm[4])))
    places = np.argwhere((allowed & scan.has_vector())[:, :, z])
    found, _ = index.search(scan.at(scan.grid.to_mm(np.c_[places, np.full(len(places), z)])))
    heights = reference.grid.to_mm(found.numpy())[:, 2]
    assert curve.reference_mm[4] == pytest.approx(np.median(heights))
    assert curve.spread_mm[4] == pytest.approx(np.subtract(*np.percentile(heights, (75, 25))) / 2)


def test_bad_numbers_are_refused(embeddings):
    with pytest.raises(ValueError, match="must be positive"):
        axial_position(*embeddings, every_mm=0)
    with pytest.raises(ValueError, match="weight their levels alike"):
        axial_position(embeddings[0], Index.of(embeddings[1], weights=[1, 1, 1, 0.5]))


def test_slices_without_body_are_refused_in_our_words(embeddings):
    with pytest.raises(ValueError, match="none has any from slice 500 on, of 15 in steps of 1000; take"):
        axial_position(*embeddings, every_mm=2000)
    allowed = np.zeros(embeddings[0].shape, bool)
    allowed[:, :, 0] = True
    with pytest.raises(ValueError, match="must have body in a slice every 6 mm"):
        axial_position(Index.of(embeddings[0], among=allowed), embeddings[1], every_mm=6)


def test_the_curve_is_written_a_row_a_slice(tmp_path):
    curve = AxialPosition(*np.array([[0.0, 10], [3.333, 14], [1, 2.5], [3.333, 14]]))
    curve.save(tmp_path / "curve.csv")
    written = (tmp_path / "curve.csv").read_text(encoding="utf-8").splitlines()
    assert written == [
        "z_mm,reference_z_mm,spread_mm,fitted_z_mm", "0.00,3.33,1.00,3.33", "10.00,14.00,2.50,14.00",
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["curve.csv"]
