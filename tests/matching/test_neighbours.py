"""Structures from labelled voxels: equal to a slow vote over every pair, and right on what can be known."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from vox2vec.matching import index as index_module
from vox2vec.matching import neighbours as module
from vox2vec.matching.index import Index
from vox2vec.matching.neighbours import LabelledVoxels, labels_by_neighbours, vote_slabs

NAMES = {3: "left", 7: "right"}


@pytest.fixture(scope="module")
def labels(embeddings):
    """3 on one side of the first scan, 7 on the other, body between."""
    labels = np.zeros(embeddings[0].shape, np.uint8)
    labels[:9], labels[16:] = 3, 7
    return labels


@pytest.fixture(scope="module")
def examples(embeddings, labels):
    return LabelledVoxels.of(embeddings[0], labels, NAMES, per_structure=40, of_body=90)


def _body(embedding):
    body = embedding.body
    body[:4, 5:, ::3] = False
    return body


def _slow_votes(embedding, voxels, examples, neighbours, temperature):
    """The formula of `vote_slabs`, voxel by voxel."""
    votes = np.zeros((3, *embedding.shape))
    for voxel in voxels:
        vector = embedding.at(embedding.grid.to_mm(voxel[None])).double()
        similar = F.cosine_similarity(vector, examples.vectors.double(), dim=1)
        said = (similar / temperature).exp() * examples.stands_for.double()
        asked = similar.argsort(descending=True)[:neighbours]
        for i in asked.tolist():
            votes[(int(examples.classes[i]), *voxel)] += float(said[i])
    return votes / np.maximum(votes.sum(axis=0), 1e-300)


@pytest.mark.parametrize(("block", "group"), [(2**22, 32), (2**10, 2), (2**12, 5)])
def test_the_votes_are_those_of_the_formula(embeddings, examples, block, group, monkeypatch):
    assert len(examples.classes) > 4 * 7 * 5  # the highest are looked for by groups of 2 and of 5, plainly with 32
    monkeypatch.setattr(index_module, "_BLOCK_VALUES", block)
    monkeypatch.setattr(index_module, "_GROUP", group)
    monkeypatch.setattr(module, "_SLAB", 11)
    target = embeddings[1]
    body = _body(target)
    slabs = list(vote_slabs(Index.of(target, among=body), examples, neighbours=7, temperature=0.1, smoothing_mm=0))
    assert [(place.start, place.stop) for place, _ in slabs] == [(0, 11), (11, 22), (22, target.shape[0])]
    found = np.concatenate([votes for _, votes in slabs], axis=1)
    voxels = np.argwhere(body)[::11]
    wanted = _slow_votes(target, voxels, examples, 7, 0.1)
    assert not found[:, ~body].any()
    other = (np.abs(found - wanted) > 1e-4).any(axis=0)[tuple(voxels.T)]
    assert other.sum() <= 3  # voxels whose 7th and 8th neighbour are equal but for rounding
    assert np.unique(found.argmax(axis=0)).tolist() == [0, 1, 2]  # each class wins somewhere


@pytest.mark.parametrize("slab", [32, 3])
@pytest.mark.parametrize("smoothing_mm", [3.0, 9.0])
def test_smoothing_by_slabs_is_that_of_the_whole(embeddings, examples, slab, smoothing_mm, monkeypatch):
    monkeypatch.setattr(module, "_SLAB", slab)
    index = Index.of(embeddings[1], among=_body(embeddings[1]))
    plain = np.concatenate([v for _, v in vote_slabs(index, examples, smoothing_mm=0)], axis=1)
    sigma = [smoothing_mm / s for s in embeddings[1].grid.spacing_mm]
    wanted = np.stack([gaussian_filter(c, sigma, mode="constant", truncate=3.0) for c in plain])
    slabs = list(vote_slabs(index, examples, smoothing_mm=smoothing_mm))
    edges = [0, *(place.stop for place, _ in slabs)]
    assert [place.start for place, _ in slabs] == edges[:-1]
    assert edges[-1] == embeddings[1].shape[0]
    np.testing.assert_allclose(np.concatenate([v for _, v in slabs], axis=1), wanted, atol=1e-5)


def test_a_scan_finds_its_own_labels(embeddings, labels):
    source = embeddings[0]
    body = source.body
    every = LabelledVoxels.of(source, labels, NAMES, per_structure=10**6, of_body=10**6)
    assert (every.stands_for == 1).all()
    found = labels_by_neighbours(Index.of(source), every, neighbours=1, smoothing_mm=0)
    assert found.dtype == np.uint8
    assert (found == np.where(body, labels, 0)).mean() > 0.99  # vectors on both sides of a border may be equal


def test_drawn_voxels_stand_for_those_that_were_left_out(embeddings, labels, examples):
    usable = embeddings[0].body
    for number, label in enumerate((0, *NAMES)):
        mine = examples.classes == number
        assert int(mine.sum()) == (90 if label == 0 else 40)
        assert float(examples.stands_for[mine].sum()) == pytest.approx((usable & (labels == label)).sum())
    thinned = LabelledVoxels.joined([examples, examples], at_most=100)
    assert len(thinned.classes) == 100
    assert float(thinned.stands_for.sum()) == pytest.approx(2 * float(examples.stands_for.sum()), rel=0.3)
    again = LabelledVoxels.joined([examples, examples], at_most=100)
    assert torch.equal(thinned.vectors, again.vectors)


def test_a_label_without_a_name_is_body(embeddings, labels):
    only = LabelledVoxels.of(embeddings[0], labels, {3: "left"}, per_structure=10**6, of_body=10**6)
    usable = embeddings[0].body
    assert int((only.classes == 0).sum()) == int((usable & (labels != 3)).sum())


def test_what_cannot_be_voted_on_is_refused(embeddings, labels, examples, unchecked_shapes):
    with pytest.raises(ValueError, match="labels must be on the prepared grid"):
        LabelledVoxels.of(embeddings[1], labels, NAMES)
    none = LabelledVoxels.of(embeddings[0], np.zeros_like(labels), NAMES)
    with pytest.raises(ValueError, match="none of the structures stands in the labels: left, right"):
        LabelledVoxels.joined([none])
    with pytest.raises(ValueError, match="at least one labelled scan"):
        LabelledVoxels.joined([])
    other = LabelledVoxels.of(embeddings[0], labels, {3: "spleen"})
    with pytest.raises(ValueError, match="name the same structures"):
        LabelledVoxels.joined([examples, other])
    index = Index.of(embeddings[1])
    with pytest.raises(ValueError, match="temperature above 0"):
        vote_slabs(index, examples, temperature=0)
    foreign = LabelledVoxels(examples.vectors, examples.classes, examples.stands_for, NAMES, "other")
    with pytest.raises(ValueError, match="embedded by the same weights"):
        vote_slabs(index, foreign)
