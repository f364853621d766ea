"""A scan on a grid of exactly the wanted spacing, its axes along the patient's."""

import numpy as np

from vox2vec.geometry import spacing_of
from vox2vec.volume import Volume


def resample(volume: Volume, spacing_mm: tuple[float, float, float]) -> Volume:
    """`volume` interpolated linearly on axes along right, anterior, superior, exactly `spacing_mm` apart.

    The grid starts at the outer face of the volume's first voxel and has `round(extent / spacing)` voxels, all of
    them inside. Where the volume's own axes are oblique or sheared, the grid spans its bounding box, and what lies
    outside the volume takes its lowest value.
    """
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * volume.shape - 0.5
    lowest = volume.to_mm(corners).min(axis=0)
    extent = volume.to_mm(corners).max(axis=0) - lowest
    spacing = np.array(spacing_mm)
    x, y, z = np.maximum(np.floor(extent / spacing + 0.5), 1).astype(int).tolist()
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = lowest + spacing / 2
    return volume.onto(Volume(np.broadcast_to(np.float32(0), (x, y, z)), affine))


def is_along_axes(volume: Volume) -> bool:
    """Whether right, anterior and superior each lie along one axis of the volume: neither oblique nor sheared."""
    directions = volume.affine[:3, :3] / spacing_of(volume.affine)
    return bool(np.isclose(np.abs(directions).max(axis=0), 1, rtol=0, atol=1e-12).all())
