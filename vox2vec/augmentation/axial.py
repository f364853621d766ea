"""Gaussian blur and sharpening of each axial slice of a patch."""

from functools import lru_cache

import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F

_TRUNCATE = 4.0  # a kernel ends this many sigmas from its centre, as in scipy


def axial_blur(image: Float32[Tensor, "x y z"], sigma: float) -> Float32[Tensor, "x y z"]:
    """Each axial slice convolved with a Gaussian of `sigma` voxels, slices mirrored at their edges.

    Equals `scipy.ndimage.gaussian_filter(image, (sigma, sigma, 0))`; `sigma` 0 leaves the image as it is.
    """
    taps = _gaussian(sigma)
    if len(taps) == 1:
        return image
    slices = _mirrored(image, len(taps) // 2)
    return _unsliced(_convolved(_convolved(slices, taps[:, None]), taps[None, :]))


def axial_sharpening(image: Float32[Tensor, "x y z"], *, sigma: float, alpha: float) -> Float32[Tensor, "x y z"]:
    """Unsharp masking of each axial slice: `image + alpha * (image - axial_blur(image, sigma))`.

    One convolution with `(1 + alpha) * delta - alpha * gaussian`: a CT kernel that is sharper than the scanner's.
    """
    taps = _gaussian(sigma)
    radius = len(taps) // 2
    kernel = -alpha * taps[:, None] * taps[None, :]
    kernel[radius, radius] += 1 + alpha
    return _unsliced(_convolved(_mirrored(image, radius), kernel))


@lru_cache(maxsize=8)
def _offsets(radius: int) -> Float[Tensor, " k"]:
    return torch.arange(-radius, radius + 1, dtype=torch.float64)


def _gaussian(sigma: float) -> Float[Tensor, " k"]:
    """The normalised kernel, in float64 on the CPU."""
    radius = int(_TRUNCATE * sigma + 0.5)
    if radius == 0:
        return torch.ones(1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (_offsets(radius) / sigma) ** 2)
    return weights / weights.sum()


def _mirrored(image: Float32[Tensor, "x y z"], radius: int) -> Float32[Tensor, "1 z x2 y2"]:
    """Slices as channels, continued beyond their edges as (c b a | a b c ... | ...), the edge voxel repeated."""
    for axis in (0, 1):
        size = image.shape[axis]
        index = torch.arange(-radius, size + radius, device=image.device) % (2 * size)
        image = image.index_select(axis, torch.minimum(index, 2 * size - 1 - index))
    return image[None].permute(0, 3, 1, 2)


def _convolved(slices: Float32[Tensor, "1 z x y"], kernel: Float[Tensor, "a b"]) -> Float32[Tensor, "1 z x2 y2"]:
    """Every channel with the one kernel. In a patch's own memory order the slices are channels-last, in which a CPU
    is ten times faster than scipy; on a GPU the other order is the one never computed in TF32."""
    if slices.device.type != "cpu":
        slices = slices.contiguous()
    channels = slices.shape[1]
    weight = kernel.to(slices).expand(channels, 1, -1, -1)
    with torch.autocast(slices.device.type, enabled=False):
        return F.conv2d(slices, weight.contiguous(memory_format=torch.channels_last), groups=channels)


def _unsliced(slices: Float32[Tensor, "1 z x y"]) -> Float32[Tensor, "x y z"]:
    return slices[0].permute(1, 2, 0)
