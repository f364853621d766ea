"""Voxels that find each other: a search on a lattice, against comparing all."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.matching.places import told_places, turned, turned_back
from vox2vec.inference.embedding import packed
from vox2vec.matching.index import Index
from vox2vec.matching.mutual import Places, both_compared, lattice_of, mutual_pairs, unit_vectors


def test_the_search_on_a_lattice_finds_the_best_voxel_of_all():
    index = Index.of(told_places((20, 18, 16), (0, 0, 0)))
    other = Index.of(told_places((20, 18, 16), (3, -6, 9)))
    asked = lattice_of(other, 12)
    found = Places(index, 6).most_similar(unit_vectors(other, asked))
    exact, _ = index.search(other.embedding.at(other.embedding.grid.to_mm(asked)))
    np.testing.assert_array_equal(found, exact.numpy())


def test_only_the_body_is_found():
    embedding = told_places((20, 18, 16), (0, 0, 0))
    body = np.ones(embedding.shape, bool)
    body[10:] = False
    index = Index.of(replace(embedding, packed_body=packed(body)))
    assert lattice_of(index, 6)[:, 0].max() < 10
    found = Places(index, 6).most_similar(unit_vectors(Index.of(embedding), np.array([[19, 5, 5], [2, 5, 5]])))
    assert body[tuple(found.T)].all()
    assert found[1].tolist() == [2, 5, 5]


def test_pairs_lie_where_the_map_between_the_scans_puts_them():
    source = Index.of(told_places((24, 22, 20), (0, 0, 0)))
    target = Index.of(told_places((30, 32, 28), (-28, -14, 3), turned_back))
    here, there = mutual_pairs(source, target, lattice_mm=15, search_mm=6)
    assert len(here) > 100
    off = np.linalg.norm(there - turned(here), axis=1)
    assert np.median(off) < 2
    assert off.max() < 8 * 1.06 + 3  # at the border of a scan: so far there and back may end


@pytest.mark.parametrize("every_mm", [1.0, 6.0, 10.0])
def test_a_lattice_has_its_distance_and_starts_half_of_it_from_the_border(every_mm):
    index = Index.of(told_places((20, 18, 16), (0, 0, 0)))
    step = max(1, round(every_mm / 3))
    x = np.unique(lattice_of(index, every_mm)[:, 0])
    np.testing.assert_array_equal(x, np.arange(step // 2, 20, step))


def test_no_vectors_find_no_voxels():
    places = Places(Index.of(told_places((8, 8, 8), (0, 0, 0))), 6)
    assert places.most_similar(torch.zeros(0, 6)).shape == (0, 3)


def test_scans_of_other_weights_are_not_compared():
    one = told_places((8, 8, 8), (0, 0, 0))
    with pytest.raises(ValueError, match="embedded by the same weights, got made and other"):
        both_compared(Index.of(one), Index.of(replace(one, fingerprint="other")))
