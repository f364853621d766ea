"""The index: equal to looking at every voxel's whole vector, one slab after the other."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vox2vec.matching import index as module
from vox2vec.matching.index import Index


def _slow(vectors, embedding, among):
    """For each vector the highest cosine similarity with any voxel of a mask: voxel, similarity, and all of them."""
    voxels = np.argwhere(among)
    every = embedding.at(embedding.grid.to_mm(voxels)).double()
    similar = F.cosine_similarity(vectors.double()[:, None], every[None], dim=2).nan_to_num(nan=-torch.inf)
    score, row = similar.max(dim=1)
    return voxels[row.numpy()], score, dict(zip(map(tuple, voxels.tolist()), similar.T, strict=True))


@pytest.mark.parametrize("slab", [2**10, 2**25])
def test_a_search_finds_the_voxel_that_looking_at_all_of_them_finds(slab, embeddings, monkeypatch):
    monkeypatch.setattr(module, "_SLAB_VALUES", slab)
    target = embeddings[0]
    queries = torch.randn(33, target.num_channels, generator=torch.Generator().manual_seed(0))
    among = np.random.default_rng(0).random(target.shape) < 0.5
    places, scores = Index.of(target, among=among).search(queries)
    _, wanted, every = _slow(queries, target, among)
    torch.testing.assert_close(scores.double(), wanted, rtol=0, atol=1e-5)
    at_found = torch.stack([every[tuple(place)][i] for i, place in enumerate(places.tolist())])
    torch.testing.assert_close(at_found, wanted, rtol=0, atol=1e-6)  # the same voxel, or a tie of rounding


def test_a_voxels_own_vector_finds_a_voxel_of_the_same_cell(embeddings):
    target = embeddings[0]
    voxels = np.argwhere(target.body)[::97]
    found, scores = Index.of(target).search(target.at(target.grid.to_mm(voxels)))
    torch.testing.assert_close(scores, torch.ones(len(scores)), rtol=0, atol=1e-5)
    apart_mm = np.linalg.norm((found.numpy() - voxels) * target.grid.spacing_mm, axis=1)
    assert apart_mm.max() <= np.linalg.norm(np.multiply(target.strides[0], 3))


def test_what_cannot_be_looked_for_is_refused(embeddings):
    index = Index.of(embeddings[0])
    with pytest.raises(ValueError, match="with NaN: points without a vector"):
        index.search(torch.full((1, embeddings[0].num_channels), torch.nan))
    with pytest.raises(ValueError, match=r"vectors must be \(q, "):
        index.search(torch.ones(1, 3))
