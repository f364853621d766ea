"""Rank, alignment and uniformity against their definitions."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vox2vec.training.spread import alignment, effective_rank, negative_similarity, uniformity


def _unit(v=30, d=6, seed=0):
    return F.normalize(torch.randn(v, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_effective_rank_counts_equal_dimensions():
    for used in (1, 2, 5):
        vectors = torch.zeros(2 * used, 8)
        for k in range(used):
            vectors[2 * k, k], vectors[2 * k + 1, k] = 1.0, -1.0
        assert effective_rank(vectors) == pytest.approx(used, abs=1e-6)
    assert effective_rank(torch.ones(9, 4)) == 0


def test_effective_rank_equals_its_definition():
    vectors = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 7)
    values = np.linalg.svd((vectors - vectors.mean(dim=0)).double().numpy(), compute_uv=False)
    shares = values / values.sum()
    assert effective_rank(vectors) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-6)


def test_alignment_uniformity_and_negatives_equal_their_sums():
    a, b = _unit(), _unit(seed=1)
    n = len(a)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    assert alignment(a, b) == pytest.approx(np.mean([float(((a[i] - b[i]) ** 2).sum()) for i in range(n)]), rel=1e-5)
    assert negative_similarity(a, b) == pytest.approx(np.mean([float(a[i] @ b[j]) for i, j in pairs]), abs=1e-6)
    slow = np.log(np.mean([np.exp(-2 * float(((a[i] - a[j]) ** 2).sum())) for i, j in pairs]))
    assert uniformity(a) == pytest.approx(slow, rel=1e-4)
