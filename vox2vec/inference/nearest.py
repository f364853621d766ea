"""The voxel of a scan whose vector is most like a given one, found by looking at all of them."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from torch.nn import functional as F

from vox2vec.inference.embedding import Embedding

_SLAB_VOXELS = 65_536  # whose vectors are formed together


def nearest(
    vectors: Float[Tensor, "q d"], embedding: Embedding, *, among: Bool[np.ndarray, "x y z"] | None = None
) -> tuple[Float64[np.ndarray, "q 3"], Float[Tensor, " q"]]:
    """For each vector the voxel with the highest cosine similarity: RAS+ millimetres, and the similarity.

    Exhaustive: `q` times the number of voxels times the vectors' width; memory for some voxels at a time.

    Args:
        among: voxels of the prepared grid to look at, all that have a vector by default.

    Raises:
        ValueError: vectors with NaN or of another width, or no voxel to look at.
    """
    if vectors.shape[1] != embedding.num_channels or not bool(vectors.isfinite().all()):
        raise ValueError(
            f"vectors must be (q, {embedding.num_channels}) and finite, got {tuple(vectors.shape)}"
            f"{'' if vectors.isfinite().all() else ' with NaN: points without a vector'}"
        )
    queries = F.normalize(vectors.float(), dim=1).T
    voxels = np.argwhere(among if among is not None else np.ones(embedding.shape, bool))
    score = torch.full((len(vectors),), -torch.inf)
    place = torch.zeros(len(vectors), dtype=torch.long)
    for start in range(0, len(voxels), _SLAB_VOXELS):
        found = embedding.at(embedding.grid.to_mm(voxels[start : start + _SLAB_VOXELS]))
        similar = (F.normalize(found, dim=1) @ queries).nan_to_num(nan=-torch.inf)
        best, row = similar.max(dim=0)
        place = torch.where(best > score, row + start, place)
        score = torch.maximum(score, best)
    if not bool(score.isfinite().all()):
        raise ValueError("no voxel to look at has a vector; is the mask empty, or of another scan?")
    return embedding.grid.to_mm(voxels[place.numpy()]), score
