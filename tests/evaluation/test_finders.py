"""Both ways find the points of a scan in its moved copy."""

import numpy as np
import pytest

from tests.data.scans import RECIPE, body
from vox2vec.evaluation.finders import by_correlation, by_features
from vox2vec.inference.embed import Embedder
from vox2vec.nn.fresh import fresh_backbone
from vox2vec.volume import Volume

WAYS = {
    "features": lambda: by_features(fresh_backbone(0, base_channels=4, num_scales=2, recipe=RECIPE)),
    "correlation": lambda: by_correlation(RECIPE, 8.0),
}


@pytest.mark.parametrize("way", WAYS)
def test_points_are_found_where_a_moved_copy_has_them(way):
    scan = body(0)
    affine = scan.affine.copy()
    moved_mm = np.array([14.0, -22.0, 31.0])
    affine[:3, 3] += moved_mm
    inside = np.argwhere(scan.image > -500)
    points = scan.to_mm(inside[np.random.default_rng(0).permutation(len(inside))[:20]])
    found = WAYS[way]()(scan, points, Volume(scan.image, affine))
    off_mm = np.linalg.norm(found - points - moved_mm, axis=1)
    assert np.median(off_mm) < np.linalg.norm(RECIPE.spacing_mm)


def test_each_scan_is_embedded_once(monkeypatch):
    embedded, embed = [], Embedder.__call__
    monkeypatch.setattr(Embedder, "__call__", lambda self, scan: (embedded.append(scan), embed(self, scan))[1])
    find = by_features(fresh_backbone(0, base_channels=2, num_scales=2, recipe=RECIPE))
    one, other = body(0), body(1)
    points = one.to_mm([[20, 15, 10]])
    np.testing.assert_array_equal(find(one, points, other), find(one, points, other))
    assert [scan is wanted for scan, wanted in zip(embedded, (one, other), strict=True)] == [True, True]
