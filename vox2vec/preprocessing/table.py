"""The patient without the table: the largest piece where thin bridges are cut."""

import cc3d
import numpy as np
import torch
from jaxtyping import Bool
from torch.nn import functional as F


def patient_alone(body: Bool[np.ndarray, "x y z"], *, contact_voxels: tuple[int, int]) -> Bool[np.ndarray, "x y z"]:
    """The voxels of a solid body mask that belong to the patient, not to the table, blankets or tubes.

    The mask is worn off in the axial plane, its largest piece (6-connected) is the patient, and is given back what
    lies as near to it. What the patient touches over a broader contact stays: nothing of the patient is ever risked.

    Args:
        contact_voxels: how much is worn off along x and y.
    """
    core = ~_spread(~body, contact_voxels)
    if not core.any():
        return body
    pieces, count = cc3d.connected_components(core, connectivity=6, return_N=True)
    sizes = cc3d.statistics(pieces, no_slice_conversion=True)["voxel_counts"][1 : count + 1]
    patient = pieces == 1 + int(np.argmax(sizes))
    return _spread(patient, (contact_voxels[0] + 1, contact_voxels[1] + 1)) & body


def _spread(mask: Bool[np.ndarray, "x y z"], by: tuple[int, int]) -> Bool[np.ndarray, "x y z"]:
    """True where any voxel within `by` along x and y is; slice by slice, so that memory stays small."""
    spread = np.empty_like(mask)
    for z in range(mask.shape[2]):
        plane = torch.from_numpy(mask[None, None, :, :, z].astype(np.float32))
        for kernel in ((2 * by[0] + 1, 1), (1, 2 * by[1] + 1)):
            plane = F.max_pool2d(plane, kernel, stride=1, padding=(kernel[0] // 2, kernel[1] // 2))
        spread[:, :, z] = plane[0, 0].numpy() > 0
    return spread
