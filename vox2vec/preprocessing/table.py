"""The patient without the table: what hangs together when thin walls are worn away."""

import cc3d
import numpy as np
import torch
from jaxtyping import Bool
from torch.nn import functional as F


def patient_alone(
    dense: Bool[np.ndarray, "x y z"], *, wall_voxels: tuple[int, int] = (5, 5)
) -> Bool[np.ndarray, "x y z"]:
    """The voxels of `dense` that belong to the patient, not to the table, its mattress, blankets or tubes.

    Walls up to `2 * wall_voxels` thick in the axial plane are worn away, the largest piece (6-connected) is the
    patient, and is given back what lies as near to it. A table is a thin shell over light foam; the patient's skin
    touches it.

    Args:
        dense: voxels at least as dense as the body.
        wall_voxels: how much is worn off along x and y.
    """
    core = ~_spread(~dense, wall_voxels)
    if not core.any():
        return dense
    pieces, count = cc3d.connected_components(core, connectivity=6, return_N=True)
    sizes = cc3d.statistics(pieces, no_slice_conversion=True)["voxel_counts"][1 : count + 1]
    patient = pieces == 1 + int(np.argmax(sizes))
    return _spread(patient, (wall_voxels[0] + 1, wall_voxels[1] + 1)) & dense


def _spread(mask: Bool[np.ndarray, "x y z"], by: tuple[int, int]) -> Bool[np.ndarray, "x y z"]:
    """True where any voxel within `by` along x and y is; slice by slice, so that memory stays small."""
    spread = np.empty_like(mask)
    for z in range(mask.shape[2]):
        plane = torch.from_numpy(mask[None, None, :, :, z].astype(np.float32))
        for kernel in ((2 * by[0] + 1, 1), (1, 2 * by[1] + 1)):
            plane = F.max_pool2d(plane, kernel, stride=1, padding=(kernel[0] // 2, kernel[1] // 2))
        spread[:, :, z] = plane[0, 0].numpy() > 0
    return spread
