"""The nearest voxel in feature space, against a loop over all voxels."""

import numpy as np
import pytest
import torch

from tests.inference.scans import blob, tiny_backbone
from vox2vec.inference import nearest as module
from vox2vec.inference.embed import embed
from vox2vec.inference.nearest import nearest


@pytest.fixture(scope="module")
def embedding():
    return embed(blob((30, 21, 17), 0), tiny_backbone((16, 16, 8)), precision="32", device="cpu", progress=False)


@pytest.mark.parametrize("slab", [100, 65_536])
def test_it_is_the_voxel_that_a_loop_over_all_finds(slab, embedding, monkeypatch):
    monkeypatch.setattr(module, "_SLAB_VOXELS", slab)
    queries = torch.randn(3, embedding.num_channels, generator=torch.Generator().manual_seed(0))
    among = np.random.default_rng(0).random(embedding.shape) < 0.5
    points, scores = nearest(queries, embedding, among=among)
    for query, point, score in zip(queries, points, scores, strict=True):
        similarity = embedding.similarity(query).image
        similarity[~among] = np.nan
        assert score == pytest.approx(np.nanmax(similarity), abs=1e-5)
        found = tuple(np.round(embedding.grid.to_voxels(point)).astype(int))
        assert similarity[found] == pytest.approx(np.nanmax(similarity), abs=1e-5)


def test_a_voxels_own_vector_finds_a_voxel_of_the_same_cell(embedding):
    voxels = np.argwhere(np.isfinite(embedding.at(_all(embedding)).sum(dim=1).numpy()).reshape(embedding.shape))[::97]
    points = embedding.grid.to_mm(voxels)
    found, scores = nearest(embedding.at(points), embedding)
    torch.testing.assert_close(scores, torch.ones(len(scores)), rtol=0, atol=1e-5)
    assert np.linalg.norm(found - points, axis=1).max() <= np.linalg.norm(np.multiply(embedding.strides[0], 3))


def _all(embedding):
    return embedding.grid.to_mm(np.moveaxis(np.indices(embedding.shape), 0, -1).reshape(-1, 3))


def test_what_cannot_be_looked_for_is_refused(embedding):
    with pytest.raises(ValueError, match="with NaN: points without a vector"):
        nearest(torch.full((1, embedding.num_channels), torch.nan), embedding)
    with pytest.raises(ValueError, match=r"vectors must be \(q, "):
        nearest(torch.ones(1, 3), embedding)
    with pytest.raises(ValueError, match="no voxel to look at has a vector"):
        nearest(torch.ones(1, embedding.num_channels), embedding, among=np.zeros(embedding.shape, bool))
