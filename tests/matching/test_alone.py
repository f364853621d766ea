"""Points found one by one: equal to comparing every vector, honest about what cannot be found."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.inference.scans import tiny_backbone
from vox2vec.data.phantom import phantom
from vox2vec.inference.embed import embed
from vox2vec.inference.embedding import Embedding, packed
from vox2vec.matching import index as index_module
from vox2vec.matching.affine import by_others
from vox2vec.matching.alone import AROUND, NEIGHBOURS, match_alone, outliers
from vox2vec.matching.index import Index
from vox2vec.recipe import Recipe
from vox2vec.volume import Volume

AFFINE = np.array([[2.0, 0, 0, -30], [0, 2, 0, 12], [0, 0, 3, 100], [0, 0, 0, 1]])


def _points(embedding, count=40, seed=0):
    """Of the body."""
    return embedding.grid.to_mm(np.random.default_rng(seed).permutation(np.argwhere(embedding.body))[:count])


@pytest.mark.parametrize("slab", [2**25, 2**12])
def test_the_best_voxel_is_that_of_brute_force(embeddings, slab, monkeypatch):
    monkeypatch.setattr(index_module, "_SLAB_VALUES", slab)
    source, target = embeddings
    vectors = source.at(_points(source))
    voxels, score = Index.of(target).search(vectors)
    every = target.at(target.grid.to_mm(np.argwhere(np.ones(target.shape))))
    similar = torch.nn.functional.cosine_similarity(vectors.double()[:, None], every.double()[None], dim=2)
    similar = similar.nan_to_num(nan=-2).reshape(len(vectors), *target.shape)
    similar[:, ~torch.from_numpy(target.body)] = -2  # air is no place
    best = similar.flatten(1).max(dim=1).values
    x, y, z = voxels.T
    at_found = similar[torch.arange(len(vectors)), x, y, z]
    torch.testing.assert_close(at_found, best, rtol=0, atol=1e-6)  # the same voxel, or a tie of rounding
    torch.testing.assert_close(score.double(), best, rtol=0, atol=1e-5)


def test_weights_and_a_mask_change_what_is_compared(embeddings):
    source, target = embeddings
    weights = [0.2, 1.0, 0.0, 3.0]
    among = np.zeros(target.shape, bool)
    among[3:20, :17, 4:] = True
    vectors = source.at(_points(source))
    widths = [level.shape[0] for level in target.pyramid]
    scales = torch.cat([torch.full((n,), w) for n, w in zip(widths, weights, strict=True)])
    voxels = np.argwhere(among)
    every = torch.nn.functional.normalize(target.at(target.grid.to_mm(voxels)) * scales, dim=1)
    similar = torch.nn.functional.normalize(vectors * scales, dim=1) @ every.T
    found, score = Index.of(target, weights=weights, among=among).search(vectors)
    torch.testing.assert_close(score, similar.max(dim=1).values, rtol=0, atol=1e-5)
    at_found = torch.nn.functional.normalize(target.at(target.grid.to_mm(found.numpy())) * scales, dim=1)
    again = (torch.nn.functional.normalize(vectors * scales, dim=1) * at_found).sum(dim=1)
    torch.testing.assert_close(again, score, rtol=0, atol=1e-5)
    assert among[tuple(found.numpy().T)].all()


def test_a_scan_matches_itself_at_once_and_mutually(embeddings):
    source, _ = embeddings
    points = _points(source)
    found = match_alone(source, points, source, refine=False)
    np.testing.assert_allclose(found.points_mm, points)
    np.testing.assert_allclose(found.score, 1, atol=1e-5)
    np.testing.assert_allclose(found.back_mm, 0, atol=1e-6)
    assert found.mutual.all()
    assert set(found.status) == {"matched"}


def test_looking_back_is_a_match_of_the_match(embeddings):
    source, target = embeddings
    points = _points(source, 12)
    there = match_alone(source, points, target, refine=False)
    back = match_alone(target, there.points_mm, source, refine=False)
    np.testing.assert_allclose(there.back_mm, np.linalg.norm(back.points_mm - points, axis=1), atol=1e-6)
    middle = float(np.median(there.back_mm))
    mutual = match_alone(source, points, target, refine=False, mutual_mm=middle).mutual
    np.testing.assert_array_equal(mutual, there.back_mm <= middle)
    assert 0 < mutual.sum() < len(points)


def test_points_without_a_vector_get_a_status_and_no_guess(embeddings):
    source, target = embeddings
    body = np.ones(source.shape, bool)
    body[:4] = False  # windows saw it all the same
    assert source.has_vector()[:4].all()
    partly = replace(source, packed_body=packed(body))
    inside, air, outside = source.grid.to_mm([[20, 10, 8], [0, 10, 8], [-9, 10, 8]])
    found = match_alone(partly, [air, inside, outside, [np.nan] * 3], target)
    assert found.status == ["outside the body", "matched", "outside the scan", "outside the scan"]
    assert np.isnan(found.points_mm[[0, 2, 3]]).all()
    assert np.isnan(found.score[[0, 2, 3]]).all()
    assert not found.mutual[[0, 2, 3]].any()
    assert np.isfinite(found.points_mm[1]).all()


def _smooth(shift):
    """One level whose vectors turn with the place, half a degree a millimetre."""
    index = np.moveaxis(np.indices((24, 20, 16)), 0, -1)
    places = np.moveaxis(Volume(np.zeros((24, 20, 16)), AFFINE).to_mm(index), -1, 0)
    angles = np.deg2rad(0.5) * (places - np.reshape(shift, (3, 1, 1, 1)))
    level = torch.from_numpy(np.concatenate([np.sin(angles), np.cos(angles)])).float()
    return Embedding(
        (level,), ((1, 1, 1),), (24, 20, 16), AFFINE, torch.ones(24, 20, 16, dtype=torch.bool), (1, 1, 1),
        packed(np.ones((24, 20, 16), bool)), Recipe(spacing_mm=(2, 2, 3)), "made",
    )  # fmt: skip


def test_refinement_finds_places_between_voxels():
    shift = np.array([0.7, -0.4, 1.2])
    source, target = _smooth(np.zeros(3)), _smooth(shift)
    points = source.grid.to_mm(np.random.default_rng(0).integers(3, 13, (30, 3)))
    coarse = match_alone(source, points, target, refine=False).points_mm - (points + shift)
    fine = match_alone(source, points, target).points_mm - (points + shift)
    assert np.abs(fine).max() < 0.05
    assert np.linalg.norm(coarse, axis=1).min() > 0.3


def test_the_refined_match_is_the_best_interpolated_vector_around_the_best_voxel(embeddings):
    source, target = (Index.of(one, average=True) for one in embeddings)
    points = _points(embeddings[0], 12) + 0.4
    found = match_alone(source, points, target)
    queries = embeddings[0].averaged().between(points)
    voxels, _ = target.search(source.embedding.at(points))
    places = np.argwhere(embeddings[1].body)
    every = embeddings[1].averaged().between(embeddings[1].grid.to_mm(places))
    for query, voxel, point, score in zip(queries, voxels.numpy(), found.points_mm, found.score, strict=True):
        near = np.abs(places - voxel).max(axis=1) <= AROUND
        similar = torch.nn.functional.cosine_similarity(every[torch.from_numpy(near)], query[None])
        assert score == pytest.approx(float(similar.max()), abs=1e-5)
        best = places[near][int(similar.argmax())]
        assert np.abs(embeddings[1].grid.to_voxels(point[None])[0] - best).max() <= 0.5 + 1e-6
    by_default = match_alone(embeddings[0], points, embeddings[1])
    np.testing.assert_array_equal(by_default.points_mm, found.points_mm)


def test_a_refined_match_stays_among_the_voxels_that_may_be_found(embeddings):
    source, target = embeddings
    among = np.zeros(target.shape, bool)
    among[3:20, :17, 4:] = True
    found = match_alone(Index.of(source), _points(source, 20), Index.of(target, among=among))
    voxels = np.rint(target.grid.to_voxels(found.points_mm)).astype(int)
    assert among[tuple(voxels.T)].all()


def test_a_wrong_match_among_many_is_an_outlier():
    rng = np.random.default_rng(0)
    points = rng.uniform(-60, 60, (40, 3))
    matrix = np.array([[1.05, 0.1, 0], [-0.1, 0.97, 0.05], [0, 0, 1.02]])
    found = points @ matrix.T + [10, -5, 40] + rng.normal(0, 1.5, points.shape)
    found[7] += [0, 45, 0]
    found[21] -= [30, 0, 20]
    assert np.flatnonzero(outliers(points, found)).tolist() == [7, 21]
    assert not outliers(points[:12], found[:12]).any()  # too few to tell


def _slow_by_neighbours(points, found):
    """One point after the other: ordinary least squares, then 19 times those weighted by Cauchy's weights."""
    values = []
    for i, point in enumerate(points):
        apart = np.linalg.norm(points - point, axis=1)
        apart[i] = np.inf
        near = np.argsort(apart)[:NEIGHBOURS]
        offsets = points[near] - point
        design = np.c_[offsets / max(np.abs(offsets).max(), 1e-6), np.ones(len(near))]
        weights = np.ones(len(near))
        for _ in range(20):
            normal = design.T @ np.diag(weights) @ design + 0.1 * np.diag([1, 1, 1, 0])
            solution = np.linalg.solve(normal, design.T @ np.diag(weights) @ (found[near] - offsets))
            residual = np.linalg.norm(found[near] - offsets - design @ solution, axis=1)
            weights = 1 / (1 + (residual / (2.385 * max(1.4826 * np.median(residual), 1e-6))) ** 2)
        values.append(solution[3])
    return np.array(values)


def test_all_points_together_are_mapped_as_one_by_one():
    rng = np.random.default_rng(0)
    points = rng.uniform(-60, 60, (200, 3))
    found = points @ np.array([[1.05, 0.1, 0], [-0.1, 0.97, 0.05], [0, 0, 1.02]]).T + rng.normal(0, 4, points.shape)
    found[::9] += rng.normal(0, 40, found[::9].shape)
    np.testing.assert_allclose(by_others(points, found, NEIGHBOURS), _slow_by_neighbours(points, found), atol=1e-9)


def test_more_points_in_one_place_than_neighbours_keep_that_place():
    points = np.zeros((3 * NEIGHBOURS, 3))
    np.testing.assert_allclose(by_others(points, points + 7, NEIGHBOURS), 7, atol=1e-9)
    assert not outliers(points, points + 7).any()


def test_memory_grows_with_the_points_not_with_their_square():
    """Distances between all of 10,000 points would take 800 MB, their differences 2.4 GB."""
    points = np.random.default_rng(0).uniform(-200, 200, (10_000, 3))
    tracemalloc.start()
    try:
        outliers(points, points + 5)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda one: Embedding(**{**vars(one), "fingerprint": "another"}), "must be embedded by the same weights"),
        (lambda one: Index.of(one, weights=[1, 1, 1, 2], average=True), "must weight their levels alike"),
        (lambda one: Index.of(one), "both or neither must be averaged"),
    ],
)
def test_what_cannot_be_compared_is_refused(embeddings, other, message):
    source, _ = embeddings
    with pytest.raises(ValueError, match=message):
        match_alone(source, _points(source), other(source))


@pytest.mark.parametrize("weights", [[1, 1], [1, 1, 1, -1], [0, 0, 0, 0]])
def test_weights_that_are_none_are_refused(embeddings, weights):
    with pytest.raises(ValueError, match="weights must be one for each of the 4 levels"):
        Index.of(embeddings[0], weights=weights)


def test_an_empty_mask_is_refused(embeddings):
    source, _ = embeddings
    with pytest.raises(ValueError, match="no voxel that may be found"):
        Index.of(source, among=np.zeros(source.shape, bool))


def test_points_in_the_air_around_the_patient_are_not_matched():
    """They were, since a window sees the air beside the body too."""
    patient, backbone = phantom(0, spacing_mm=(6, 6, 6)), tiny_backbone((16, 16, 8), spacing_mm=(6.0, 6.0, 6.0))
    scan = embed(patient.volume, backbone, precision="32", device="cpu", progress=False)
    air = np.random.default_rng(0).permutation(np.argwhere(~scan.body & scan.has_vector()))[:200]
    assert len(air) == 200
    found = match_alone(scan, scan.grid.to_mm(air), scan)
    assert set(found.status) == {"outside the body"}
    assert np.isnan(found.points_mm).all()
    assert not found.mutual.any()
