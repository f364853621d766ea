"""Where in the body each slice of a scan lies, by the features alone, against a reference scan."""

from dataclasses import dataclass
from os import PathLike

import numpy as np
import torch
from jaxtyping import Float64
from scipy.optimize import isotonic_regression

from vox2vec.inference.embedding import Embedding
from vox2vec.matching.csv_file import write_csv
from vox2vec.matching.index import Index


@dataclass(frozen=True, eq=False)
class AxialPosition:
    """For each looked-at slice of a scan, where its voxels lie in the reference.

    Attributes:
        slices_mm: of the scan, RAS+ z, from the feet up.
        reference_mm: median z of the reference's voxels most like the slice's.
        spread_mm: half the width of the middle half of those, how sure it is.
        fitted_mm: `reference_mm` drawn to the nearest curve that does not turn back, sure slices counting more.
    """

    slices_mm: Float64[np.ndarray, " s"]
    reference_mm: Float64[np.ndarray, " s"]
    spread_mm: Float64[np.ndarray, " s"]
    fitted_mm: Float64[np.ndarray, " s"]

    def save(self, path: str | PathLike[str]) -> None:
        """Write a CSV with a row a slice: z_mm, reference_z_mm, spread_mm, fitted_z_mm."""
        columns = self.slices_mm, self.reference_mm, self.spread_mm, self.fitted_mm
        rows = ([f"{value:.2f}" for value in row] for row in zip(*columns, strict=True))
        write_csv(path, ["z_mm", "reference_z_mm", "spread_mm", "fitted_z_mm"], rows)


def axial_position(
    scan: Embedding | Index,
    reference: Embedding | Index,
    *,
    every_mm: float = 10.0,
    voxels_per_slice: int = 24,
    seed: int = 0,
) -> AxialPosition:
    """Look for voxels of each slice in the reference, and take the median of where they are found.

    Args:
        scan: its body is looked for, or the `among` of an index.
        every_mm: from slice to slice.

    Raises:
        ValueError: embeddings of different weights, other level weights, a number out of range, or no body in any of
            the slices.
    """
    scan, reference = (one if isinstance(one, Index) else Index.of(one) for one in (scan, reference))
    if scan.embedding.fingerprint != reference.embedding.fingerprint or list(scan.weights) != list(reference.weights):
        raise ValueError("both scans must be embedded by the same weights, and weight their levels alike")
    if every_mm <= 0 or voxels_per_slice < 1:
        raise ValueError(f"every_mm and voxels_per_slice must be positive, got {every_mm} and {voxels_per_slice}")
    rng = np.random.default_rng([seed, 33])
    grid, allowed = scan.embedding.grid, scan.may_be_found.numpy()
    step = max(1, round(every_mm / grid.spacing_mm[2]))
    drawn, owner = [], []
    for z in range(step // 2, grid.shape[2], step):
        places = np.argwhere(allowed[:, :, z])
        if len(places):
            chosen = places[rng.permutation(len(places))[:voxels_per_slice]]
            drawn.append(np.c_[chosen, np.full(len(chosen), z)])
            owner.append(z)
    if not drawn:
        raise ValueError(
            f"a scan must have body in a slice every {every_mm:g} mm, none has any from slice {step // 2} on, of "
            f"{grid.shape[2]} in steps of {step}; take a smaller every_mm"
        )
    vectors = scan.embedding.at(grid.to_mm(np.concatenate(drawn)))
    found, _ = reference.search(vectors)
    height = torch.tensor(reference.embedding.affine[2, 3]) + found[:, 2] * reference.embedding.affine[2, 2]
    parts = np.split(height.numpy(), np.cumsum([len(part) for part in drawn])[:-1])
    low, middle, high = np.array([np.percentile(part, (25, 50, 75)) for part in parts]).T
    spread = (high - low) / 2
    slices = grid.affine[2, 3] + np.array(owner) * grid.affine[2, 2]
    sure = 1 / (spread + grid.spacing_mm[2])
    return AxialPosition(slices, middle, spread, isotonic_regression(middle, weights=sure).x)
