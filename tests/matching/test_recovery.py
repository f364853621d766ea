"""Points of a bent copy: found where they are by vectors that are right by construction, missed by wrong ones."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from tests.data.scans import RECIPE
from vox2vec.inference.embedding import Embedding, packed
from vox2vec.matching import recovery as module
from vox2vec.matching.deformation import BentPair, draw_deformation
from vox2vec.matching.recovery import matching_errors, recall
from vox2vec.nn.fpn import FPN3d
from vox2vec.preprocessing.body import body_mask
from vox2vec.volume import Volume


def _volume():
    """Texture as coarse as a few voxels, on the recipe's grid."""
    rng = np.random.default_rng(0)
    image = np.full((48, 36, 24), -1000, np.float32)
    image[4:44, 4:32] = gaussian_filter(rng.normal(0, 900, (48, 36, 24)), 2)[4:44, 4:32] + 100
    return Volume(image, np.diag([2.0, 2, 3, 1]))


def _backbone():
    torch.manual_seed(0)
    backbone = FPN3d(base_channels=4, num_scales=2)
    backbone.recipe = RECIPE
    return backbone


def test_without_deformation_points_are_found_where_they_are():
    volume = _volume()
    still = draw_deformation(volume, 0, rotation_deg=0, scale=(1, 1), elastic_mm=0)
    errors, _ = matching_errors(BentPair(volume, volume, still), _backbone(), num_points=50, device="cpu")
    assert np.median(errors) == 0
    assert recall(errors) > 0.95


def test_the_truth_is_where_the_deformation_says(monkeypatch):
    """With vectors that are the place in the scan, found in the copy by the map, errors are of a voxel's size; where
    the copy's vectors do not follow the map they are not."""
    volume = _volume()
    drawn = draw_deformation(volume, 0, rotation_deg=5, elastic_mm=3)
    bent = BentPair(volume, drawn.bent(volume), drawn)
    points = volume.to_mm(np.moveaxis(np.indices(volume.shape), 0, -1))

    def embedded(places):
        """No two places have the same direction."""
        pyramid = torch.from_numpy(np.concatenate([places / 100, np.ones((*volume.shape, 1))], axis=-1)).movedim(-1, 0)
        one = (1, 1, 1)
        everywhere = torch.ones(volume.shape, dtype=torch.bool)
        of_copy = packed(body_mask(bent.copy.image))
        return Embedding((pyramid,), (one,), volume.shape, volume.affine, everywhere, one, of_copy, RECIPE, "")

    scan = embedded(points)
    for follows, median in ((True, (0, 3)), (False, (3, 100))):
        pair = iter([scan, embedded(drawn.source_mm(points) if follows else points)])
        monkeypatch.setattr(module, "Embedder", lambda *_, pair=pair, **__: lambda scan: next(pair))
        errors, _ = matching_errors(bent, _backbone(), num_points=50)
        assert median[0] <= np.median(errors) <= median[1]


def test_recall_is_the_share_within_the_limit():
    assert recall(np.array([0.0, 4.9, 5.0, 5.1])) == 0.75
