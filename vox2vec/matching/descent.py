"""A displacement that makes two images alike and stays smooth, by Gauss and Newton's method from coarse to fine."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vox2vec.matching.lattice import gathered, nodes_of, refined
from vox2vec.matching.local_contrast import local_contrast

_PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))  # of a symmetric 3 x 3 matrix
_LONGEST = 0.4  # pitches of the lattice that a node moves in a step
_STILL = 0.005  # voxels of mean movement that end a scale
_SOLVED = 1e-3  # of the residual at the start


@dataclass(frozen=True, eq=False)
class Images:
    """Two images on grids of the same spacing, along right, anterior, superior.

    Attributes:
        fixed, moving: in [0, 1].
        fixed_mm, moving_mm: (3,), where voxel 0 is.
        spacing_mm: the same along each axis.
    """

    fixed: Float[Tensor, "x y z"]
    moving: Float[Tensor, "a b c"]
    fixed_mm: Float[Tensor, "3"]
    moving_mm: Float[Tensor, "3"]
    spacing_mm: float

    def nodes_mm(self) -> Float[Tensor, "3 x2 y2 z2"]:
        """Places of the nodes of the fixed image's lattice: every second voxel."""
        return _places(nodes_of(self.fixed.shape), 2 * self.spacing_mm, self.fixed_mm)


def descended(
    images: Images,
    rest_mm: Float[Tensor, "3 x2 y2 z2"],
    straight_mm: Float[Tensor, "3 x2 y2 z2"],
    *,
    smoothness: float,
    steps: int,
) -> Float[Tensor, "3 x2 y2 z2"]:
    """`rest_mm` after at most so many steps downhill.

    The sum over voxels of `rho(F(x) - M(x + u(x)))`, F and M the images' local contrast and rho Cauchy's function, plus
    `smoothness` times the sum of squared differences between neighbouring nodes of the rest. A step solves the normal
    equations of both terms, the images' gradients averaged; voxels from beyond the moving image weigh nothing.

    Args:
        rest_mm: displacement of the nodes beyond `straight_mm`, an affine one that costs nothing.

    Source: Vercauteren et al., "Diffeomorphic demons: efficient non-parametric image registration", 2009, for the mean
    of both gradients; the measure of Lewis, 1995.
    """
    fixed, moving = local_contrast(images.fixed), local_contrast(images.moving)
    own = _gradient(fixed, images.spacing_mm)
    places = _places(fixed.shape, images.spacing_mm, images.fixed_mm) - _column(images.moving_mm)
    last = _column(torch.tensor(moving.shape) - 1)
    for _ in range(steps):
        voxels = (places + refined(straight_mm + rest_mm, fixed.shape)) / images.spacing_mm
        warped = _sampled(moving, voxels)
        slopes = (own + _gradient(warped, images.spacing_mm)) / 2
        off = fixed - warped
        weight = ((voxels >= 0) & (voxels <= last)).all(dim=0) / (1 + off**2)
        pull = gathered(slopes * (off * weight)) - smoothness * _roughness(rest_mm)
        curvature = gathered(torch.stack([slopes[i] * slopes[j] * weight for i, j in _PAIRS]))
        step = solved(curvature, pull, smoothness)
        length = step.norm(dim=0)
        rest_mm = rest_mm + step * (_LONGEST * 2 * images.spacing_mm / length.clamp(min=1e-6)).clamp(max=1)
        if float(length.mean()) < _STILL * images.spacing_mm:
            break
    return rest_mm


def solved(
    curvature: Float[Tensor, "6 x y z"], pull: Float[Tensor, "3 x y z"], smoothness: float, *, rounds: int = 20
) -> Float[Tensor, "3 x y z"]:
    """The step that a lattice of symmetric matrices and the smoothness between them take to the pull.

    Conjugate gradients, preconditioned by the diagonal.
    """

    def product(step: Tensor) -> Tensor:
        x, y, z = step
        xx, yy, zz, xy, xz, yz = curvature
        here = torch.stack([xx * x + xy * y + xz * z, xy * x + yy * y + yz * z, xz * x + yz * y + zz * z])
        return here + smoothness * _roughness(step)

    diagonal = curvature[:3] + 6 * smoothness
    step, left = torch.zeros_like(pull), pull.clone()
    scaled = left / diagonal
    along, size = scaled, (left * scaled).sum()
    enough = _SOLVED * float(size)
    for _ in range(rounds):
        if float(size) <= enough:
            break
        turned = product(along)
        share = size / (along * turned).sum()
        step, left = step + share * along, left - share * turned
        scaled = left / diagonal
        before, size = size, (left * scaled).sum()
        along = scaled + size / before * along
    return step


def _roughness(values: Float[Tensor, "3 x y z"]) -> Float[Tensor, "3 x y z"]:
    """The derivative of half the sum of squared differences between neighbours."""
    total = torch.zeros_like(values)
    for axis in (1, 2, 3):
        change, size = values.diff(dim=axis), values.shape[axis] - 1
        total.narrow(axis, 0, size).sub_(change)
        total.narrow(axis, 1, size).add_(change)
    return total


def _gradient(image: Float[Tensor, "x y z"], spacing_mm: float) -> Float[Tensor, "3 x y z"]:
    padded = F.pad(image[None, None], [1] * 6, mode="replicate")[0, 0]
    whole = [slice(1, -1)] * 3
    parts = []
    for axis in range(3):
        after, before = list(whole), list(whole)
        after[axis], before[axis] = slice(2, None), slice(0, -2)
        parts.append((padded[tuple(after)] - padded[tuple(before)]) / (2 * spacing_mm))
    return torch.stack(parts)


def _sampled(image: Float[Tensor, "a b c"], voxels: Float[Tensor, "3 x y z"]) -> Float[Tensor, "x y z"]:
    size = torch.tensor(image.shape).flip(0)
    places = voxels.flip(0).movedim(0, -1) * (2 / (size - 1).clamp(min=1)) - 1
    return F.grid_sample(image[None, None], places[None], padding_mode="border", align_corners=True)[0, 0]


def _places(shape: Sequence[int], spacing_mm: float, start_mm: Float[Tensor, "3"]) -> Float[Tensor, "3 x y z"]:
    lines = [start + spacing_mm * torch.arange(n) for n, start in zip(shape, start_mm, strict=True)]
    return torch.stack(torch.meshgrid(*lines, indexing="ij"))


def _column(values: Tensor) -> Tensor:
    return values[:, None, None, None]
