"""Points found again in a bent, noisy copy of their scan: how good vectors are, told without labels."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vox2vec.inference.embed import Embedder
from vox2vec.inference.embedding import Embedding
from vox2vec.matching.deformation import BentPair
from vox2vec.matching.index import Index
from vox2vec.nn.fpn import FPN3d

RECALL_MM = 5.0


def matching_errors(
    pair: BentPair,
    backbone: FPN3d,
    *,
    seed: int = 0,
    num_points: int = 200,
    overlap: float = 0.5,
    device: str | torch.device = "auto",
) -> tuple[np.ndarray, Embedding]:
    """Distances (v,) in mm between where points of a scan are found in its bent copy and where they are; and the scan's
    embedding.

    Points are drawn from the copy's body, where they came from in the scan is known; each is looked for, by its vector
    in the scan, among all body voxels of the copy.

    Args:
        pair: HU, on the grid of `backbone.recipe`.
        seed: of the points.

    Raises:
        ValueError: no point of the copy's body comes from the scan's.
    """
    embedder = Embedder(backbone, device=device, overlap=overlap, progress=False, compiled=False)
    scan, target = embedder(pair.scan), embedder(pair.copy)
    truth, vectors = points_of(pair, scan, target, seed=seed, num_points=num_points)
    found, _ = Index.of(target).search(vectors)
    return np.linalg.norm(target.grid.to_mm(found.numpy()) - truth, axis=1), scan


def points_of(
    pair: BentPair, scan: Embedding, target: Embedding, *, seed: int, num_points: int
) -> tuple[Float[np.ndarray, "v 3"], Float[Tensor, "v d"]]:
    """Points of the copy's body, RAS+ millimetres, and the vectors of the same points in the scan.

    Raises:
        ValueError: no point of the copy's body comes from the scan's.
    """
    rng = np.random.default_rng([seed, 28])
    truth = target.grid.to_mm(rng.permutation(np.argwhere(target.body))[: 2 * num_points])
    vectors = scan.at(pair.deformation.source_mm(truth))
    known = vectors.isfinite().all(dim=1)
    if not bool(known.any()):
        raise ValueError("no point of the bent scan's body comes from the scan; is there a body in it?")
    return truth[known.numpy()][:num_points], vectors[known][:num_points]


def recall(errors_mm: np.ndarray, *, within_mm: float = RECALL_MM) -> float:
    """The share of errors of at most `within_mm`."""
    return float((errors_mm <= within_mm).mean())
