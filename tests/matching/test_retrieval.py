"""The most similar places of many CTs: equal to looking at every vector, whole after a kill, of one network only."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.inference.scans import blob, tiny_backbone
from vox2vec.inference.embed import embed
from vox2vec.inference.embedding import packed
from vox2vec.matching import retrieval as module
from vox2vec.matching.retrieval import PlaceIndex


@pytest.fixture(scope="module")
def embeddings():
    backbone = tiny_backbone((16, 16, 8))
    return {
        name: embed(blob(shape, seed), backbone, precision="32", device="cpu", dtype=torch.float32, progress=False)
        for name, shape, seed in (("a", (30, 21, 15), 0), ("b", (27, 33, 19), 1), ("c", (20, 20, 20), 2))
    }


@pytest.fixture
def index(embeddings, tmp_path):
    index = PlaceIndex(tmp_path, embeddings["a"].fingerprint, every_mm=4)
    for key, embedding in embeddings.items():
        index.add(key, embedding)
    return index


@pytest.mark.parametrize("rows", [2**14, 100])
def test_the_best_places_are_those_of_every_vector(embeddings, index, rows, monkeypatch):
    monkeypatch.setattr(module, "_ROWS", rows)
    vector = embeddings["c"].at(embeddings["c"].grid.to_mm([[9, 11, 7]]))[0]
    found = index.search(vector, count=40, apart_mm=0)
    everything = []
    for key, embedding in embeddings.items():
        steps = [max(1, round(4 / s)) for s in embedding.grid.spacing_mm]
        lattice = [range(step // 2, n, step) for step, n in zip(steps, embedding.shape, strict=True)]
        points = embedding.grid.to_mm(np.stack(np.meshgrid(*lattice, indexing="ij"), axis=-1).reshape(-1, 3))
        similar = torch.nn.functional.cosine_similarity(embedding.at(points), vector[None], dim=1)
        everything += [(float(s), key, tuple(p)) for s, p in zip(similar, points, strict=True) if bool(s.isfinite())]
    everything.sort(reverse=True)
    np.testing.assert_allclose([p.score for p in found], [s for s, _, _ in everything[:40]], atol=2e-3)
    by_place = {(key, tuple(np.round(point, 3))): score for score, key, point in everything}
    for place in found:
        assert by_place[place.key, tuple(np.round(place.point_mm, 3))] == pytest.approx(place.score, abs=2e-3)


def test_places_of_one_ct_lie_apart_and_others_can_be_left_out(embeddings, index):
    vector = embeddings["a"].at(embeddings["a"].grid.to_mm([[9, 11, 7]]))[0]
    found = index.search(vector, count=12, apart_mm=15)
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)
    for key in "abc":
        points = np.array([p.point_mm for p in found if p.key == key]).reshape(-1, 3)
        apart = np.linalg.norm(points[:, None] - points[None], axis=2) + 1e3 * np.eye(len(points))
        assert (apart >= 15).all()
    assert {p.key for p in index.search(vector, among={"b", "c"})} <= {"b", "c"}


def test_a_ct_is_in_the_index_whole_or_not_at_all(embeddings, tmp_path, monkeypatch):
    index = PlaceIndex(tmp_path, embeddings["a"].fingerprint, every_mm=4)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.json, "dumps", killed)
        with pytest.raises(KeyboardInterrupt):
            index.add("a", embeddings["a"])
    assert "a" not in index
    assert index.keys == []
    index.add("a", embeddings["a"])
    assert index.keys == PlaceIndex(tmp_path, embeddings["a"].fingerprint, every_mm=4).keys == ["a"]
    assert PlaceIndex(tmp_path, "another network", every_mm=4).keys == []


def test_what_cannot_be_indexed_or_asked_is_refused(embeddings, index, tmp_path):
    embedding = embeddings["a"]
    with pytest.raises(ValueError, match="the embedding of"):
        PlaceIndex(tmp_path, "other").add("a", embedding)
    with pytest.raises(ValueError, match="no body voxel on a lattice"):
        index.add("d", replace(embedding, packed_body=packed(np.zeros(embedding.shape, bool))))
    with pytest.raises(ValueError, match="holds NaN"):
        index.search(torch.full((embedding.num_channels,), torch.nan))
    with pytest.raises(ValueError, match=r"the vector must be"):
        index.search(torch.ones(3))
    with pytest.raises(ValueError, match="every_mm must be positive"):
        PlaceIndex(tmp_path, "other", every_mm=0)
    with pytest.raises(ValueError, match="count must be at least 1"):
        index.search(torch.ones(embedding.num_channels), count=0)
