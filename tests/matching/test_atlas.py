"""Structures carried by a field: equal to a slow vote, moved where the field says, no vote where nothing is shown."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vox2vec.matching import atlas as module
from vox2vec.matching.atlas import Atlas, carried_votes, labels_by_atlases
from vox2vec.matching.field import Field
from vox2vec.matching.index import Index

NAMES = {3: "left", 300: "right"}


def _field(source, target, shift_mm=(0.0, 0.0, 0.0)):
    """From one embedding's world to another's by a shift, through points of the source's grid."""
    points = source.grid.to_mm(np.argwhere(np.ones((4, 4, 4))) * (np.array(source.shape) - 1) / 3)
    boxes = (one.grid.to_mm([[-0.5] * 3, np.array(one.shape) - 0.5]) for one in (source, target))
    return Field(points, points + shift_mm, np.eye(3), 18.0, *boxes)


def _labels(embedding):
    """3 on one side, 300 on the other, none between."""
    labels = np.zeros(embedding.shape, np.int16)
    labels[:10], labels[17:] = 3, 300
    return labels


def _atlas(index, labels, field):
    classes = torch.zeros(labels.shape, dtype=torch.int16)
    for i, number in enumerate(NAMES):
        classes[torch.from_numpy(labels == number)] = i + 1
    return Atlas(index, classes, NAMES, field)


@pytest.fixture(scope="module")
def indices(embeddings):
    return [Index.of(one, average=True) for one in embeddings]


def _whole(slabs):
    return np.concatenate([votes for _, votes in slabs], axis=1)


def _slow_votes(scan, atlas, voxels, shift_mm, temperature, near_mm):
    """The formula of `carried_votes` with blocks of one voxel of 1 x 1 x 2 mm, voxel by voxel."""
    own, other = scan.embedding.grid, atlas.index.embedding.grid
    reach_mm = 0.75 * 1.0 + 1.5 * near_mm
    votes = np.zeros((len(voxels), 3))
    for row, voxel in enumerate(voxels):
        place_mm = own.to_mm(voxel) + shift_mm
        centre = np.rint(other.to_voxels(place_mm)).astype(int)
        vector = scan.embedding.at(own.to_mm(voxel[None])).double()
        for step in np.ndindex(21, 21, 21):
            off = (np.array(step) - 10) * (3, 3, 2)  # a lattice of about 3 mm
            asked = centre + off
            if np.linalg.norm(off * (1, 1, 2)) > reach_mm or (asked < 0).any() or (asked >= other.shape).any():
                continue
            if not atlas.index.may_be_found[tuple(asked)]:
                continue
            at_mm = other.to_mm(asked)
            similar = float(F.cosine_similarity(vector, atlas.index.embedding.at(at_mm[None]).double())[0])
            far = np.linalg.norm(at_mm - place_mm)
            votes[row, int(atlas.classes[tuple(asked)])] += np.exp(similar / temperature - far**2 / (2 * near_mm**2))
    return votes


@pytest.mark.parametrize("gathered", [2**24, 2**16])
def test_the_votes_are_those_of_the_formula(indices, gathered, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_MM", 1.0)
    monkeypatch.setattr(module, "_GATHERED", gathered)
    body = indices[1].embedding.body
    body[:6, 3:9] = False
    scan = Index.of(indices[1].embedding, among=body)
    scan = dataclasses.replace(scan, averaged=True)
    shift_mm = np.array([1.4, -2.3, 3.1])
    atlases = [
        _atlas(indices[0], _labels(indices[0].embedding), _field(scan.embedding, indices[0].embedding, shift_mm)),
        _atlas(indices[1], _labels(indices[1].embedding), _field(scan.embedding, indices[1].embedding)),
    ]
    found = _whole(carried_votes(scan, atlases, temperature=0.3, near_mm=3.0, smoothing_mm=0))
    assert found.shape == (3, *scan.embedding.shape)
    assert not found[:, ~body].any()
    voxels = np.argwhere(body)[5::997]
    wanted = sum(
        _slow_votes(scan, one, voxels, shift, 0.3, 3.0) for one, shift in zip(atlases, (shift_mm, 0), strict=True)
    )
    wanted /= wanted.sum(axis=1, keepdims=True)
    asked = found[(slice(None), *voxels.T)].T
    seen = asked.any(axis=1)  # blocks with no structure in reach are not asked
    assert seen.sum() > 10
    np.testing.assert_allclose(asked[seen], wanted[seen], atol=2e-3)
    assert (wanted[~seen, 0] > 1 - 1e-6).all()


def test_a_scan_carries_its_own_labels_to_itself_and_to_where_it_is_moved(indices, monkeypatch):
    monkeypatch.setattr(module, "_LATTICE_MM", 1.0)
    index = indices[0]
    labels = _labels(index.embedding)
    body = index.embedding.body
    atlas = _atlas(index, labels, _field(index.embedding, index.embedding))
    options = {"temperature": 0.01, "near_mm": 1.5, "smoothing_mm": 0}
    found = labels_by_atlases(index, [atlas], **options)
    assert found.dtype == np.int16
    assert (found == np.where(body, labels, 0))[body].mean() > 0.97
    moved_mm = np.array([5.0, 0, 0])  # the field says that a place lies 5 voxels farther along x
    atlas = _atlas(index, labels, _field(index.embedding, index.embedding, moved_mm))
    found = labels_by_atlases(index, [atlas], temperature=100.0, near_mm=1.5, smoothing_mm=0)
    right = np.zeros_like(labels)
    right[:-5] = labels[5:]
    inside = body.copy()
    inside[-5:] = False
    assert (found == right)[inside].mean() > 0.9


def test_an_atlas_that_does_not_show_a_place_says_nothing_about_it(indices):
    index = indices[0]
    labels = _labels(index.embedding)
    own = _atlas(index, labels, _field(index.embedding, index.embedding))
    far = _atlas(index, labels, _field(index.embedding, index.embedding, (400.0, 0, 0)))
    assert not _whole(carried_votes(index, [far], smoothing_mm=0)).any()
    np.testing.assert_array_equal(labels_by_atlases(index, [far]), 0)
    alone, both = (_whole(carried_votes(index, atlases, smoothing_mm=0)) for atlases in ([own], [own, far]))
    np.testing.assert_allclose(both, alone)


def test_the_field_is_from_the_scan_to_the_labelled_one(indices):
    labels = _labels(indices[0].embedding)
    atlas = Atlas.of(indices[0], indices[0], labels, NAMES)
    np.testing.assert_array_equal(np.array([0, 3, 300])[atlas.classes.numpy()], labels)
    moved = dataclasses.replace(indices[0].embedding, affine=np.eye(4) @ indices[0].embedding.affine)
    moved.affine[0, 3] += 100
    target = dataclasses.replace(indices[0], embedding=moved)
    there = Atlas.of(indices[0], target, labels, NAMES).field.at(atlas.field.source_mm).points_mm
    np.testing.assert_allclose(there - atlas.field.source_mm, np.tile([100.0, 0, 0], (len(there), 1)), atol=0.5)
    with pytest.raises(ValueError, match="labels must be on the prepared grid"):
        Atlas.of(indices[0], indices[0], labels[:-1], NAMES)


def test_what_cannot_be_carried_is_refused(indices, unchecked_shapes):
    index = indices[0]
    labels = _labels(index.embedding)
    atlas = _atlas(index, labels, _field(index.embedding, index.embedding))
    with pytest.raises(ValueError, match="at least one labelled scan"):
        carried_votes(index, [])
    with pytest.raises(ValueError, match="name the same structures"):
        carried_votes(index, [atlas, dataclasses.replace(atlas, label_names={3: "left", 300: "spleen"})])
    with pytest.raises(ValueError, match="none of the structures stands in the labels: left, right"):
        carried_votes(index, [dataclasses.replace(atlas, classes=torch.zeros_like(atlas.classes))])
    with pytest.raises(ValueError, match="temperature and near_mm must be above 0"):
        carried_votes(index, [atlas], near_mm=0)
    with pytest.raises(ValueError, match="both or neither must be averaged"):
        carried_votes(Index.of(index.embedding), [atlas])
