"""Intensities relative to what is around them: what local correlation compares, as an image of its own."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def local_contrast(image: Float[Tensor, "x y z"], *, radius: int = 2, floor: float = 0.03) -> Float[Tensor, "x y z"]:
    """`(image - mean) / sqrt(variance + floor**2)`, both over the cube of `2 radius + 1` voxels around each voxel.

    Half the mean square of two images' difference, after this, is one less their local correlation where structure is
    far above the floor. Beyond the border the border's values stand.

    Args:
        floor: contrast below which nothing is structure, in the image's unit: noise is not raised to structure.

    Source: Lewis, Fast Normalized Cross-Correlation, 1995, for the measure.
    """
    mean = _box_mean(image, radius)
    variance = (_box_mean(image * image, radius) - mean * mean).clamp(min=0)
    return (image - mean) / (variance + floor**2).sqrt()


def _box_mean(values: Float[Tensor, "x y z"], radius: int) -> Float[Tensor, "x y z"]:
    size = 2 * radius + 1
    for axis in range(3):
        line = values.movedim(axis, -1)
        padded = F.pad(line.flatten(0, 1)[None], (radius, radius), mode="replicate")[0]
        sums = F.pad(padded.cumsum(dim=1), (1, 0))
        values = ((sums[:, size:] - sums[:, :-size]) / size).unflatten(0, line.shape[:2]).movedim(-1, axis)
    return values.contiguous()
