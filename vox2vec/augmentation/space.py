"""Random flips, quarter turns, rotation and rescaling of patches, with the voxels they carry."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32, Int64, Num
from torch import Tensor
from torch.nn import functional as F

from vox2vec.augmentation.draws import chosen, uniform
from vox2vec.recipe import PAPER


@dataclass(frozen=True, eq=False)
class Space:
    """How each of `n` patches is laid anew around its centre; drawn by `draw_space`, on the CPU.

    Attributes:
        matrix: from a view's voxel, counted from the patch's centre, to the patch's voxel, likewise.
    """

    matrix: Float32[Tensor, "n 3 3"]


def draw_space(
    n: int,
    *,
    generator: torch.Generator,
    flip_probability: float = 0.0,
    quarter_turn_probability: float = 0.0,
    rotation_deg: float = 0.0,
    scale: tuple[float, float] = (1.0, 1.0),
    spacing_mm: tuple[float, float, float] = PAPER.spacing_mm,
) -> Space:
    """Parameters for `n` patches, independent of each other; by default nothing is changed, as in the released code.

    Args:
        generator: on the CPU; the only source of chance.
        flip_probability: of mirroring, for each axis on its own.
        quarter_turn_probability: of a turn by 90, 180 or 270 degrees in the axial plane.
        rotation_deg: at most this far, either way, around each of the three axes, uniform.
        scale: how much larger the view shows the patient, log-uniform.
        spacing_mm: of the patches, so that a rotation is one in the patient, not of anisotropic voxels.

    Source: the paper's "augmented contexts" (arXiv 2307.14725, section 3); the ranges are the user's.
    """
    flips = 1 - 2 * torch.stack([chosen(n, flip_probability, generator) for _ in range(3)], dim=1).float()
    turned = chosen(n, quarter_turn_probability, generator)
    quarters = torch.randint(1, 4, (n,), generator=generator) * turned
    angles = [torch.deg2rad(uniform(n, (-rotation_deg, rotation_deg), generator)) for _ in range(3)]
    low, high = (torch.tensor(bound).log().item() for bound in scale)
    zoom = uniform(n, (low, high), generator).exp()
    quarter = _rotation(2, quarters * (torch.pi / 2)).round()  # exactly 0, 1, -1
    rotation = _rotation(0, angles[0]) @ _rotation(1, angles[1]) @ _rotation(2, angles[2])
    spacing = torch.tensor(spacing_mm)
    in_voxels = rotation * spacing[None, None, :] / spacing[None, :, None]
    return Space(quarter @ in_voxels @ torch.diag_embed(flips) / zoom[:, None, None])


def with_space(
    patches: Num[Tensor, "n 1 x y z"], voxels: Sequence[Int64[Tensor, "v 3"]], drawn: Space, *, fill: float
) -> tuple[Float32[Tensor, "n 1 x y z"], list[Int64[Tensor, "w 3"]], list[Bool[Tensor, " v"]]]:
    """The patches laid anew, on their own device, and where their voxels went.

    Flips and quarter turns (of patches square in the axial plane) move values without interpolation; the rest
    interpolates linearly. What comes from beyond the patch is `fill`.

    Args:
        voxels: of each patch, indices (v, 3).

    Returns:
        The views; for each patch the nearest voxels of the view, those that stayed inside alone; and which stayed.
        To keep pairs together, keep the rows that stayed in both views.

    Raises:
        ValueError: parameters or voxels of another number of patches.
    """
    if not len(patches) == len(drawn.matrix) == len(voxels):
        raise ValueError(
            f"parameters and voxels must be those of the {len(patches)} patches, "
            f"got {len(drawn.matrix)} and {len(voxels)}"
        )
    views = torch.empty_like(patches, dtype=torch.float32)
    moved: list[Tensor] = []
    stayed: list[Tensor] = []
    for i, matrix in enumerate(drawn.matrix):
        views[i, 0] = _laid(patches[i, 0].float(), matrix, fill)
        places, inside = _moved(voxels[i], matrix, patches.shape[2:])
        moved.append(places[inside])
        stayed.append(inside)
    return views, moved, stayed


def _laid(patch: Float32[Tensor, "x y z"], matrix: Float32[Tensor, "3 3"], fill: float) -> Float32[Tensor, "x y z"]:
    if _is_permutation(matrix, patch.shape):
        return _permuted(patch, matrix)
    sizes = torch.tensor(patch.shape, device=patch.device)
    half = (sizes - 1) / 2
    axes = [torch.arange(n, device=patch.device) - h for n, h in zip(patch.shape, half.tolist(), strict=True)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)  # (x, y, z, 3), from the centre
    sources = (grid @ matrix.to(grid).T) / half.clamp(min=0.5)
    with torch.autocast(patch.device.type, enabled=False):
        view = F.grid_sample((patch - fill)[None, None], sources.flip(-1)[None], align_corners=True)
    return view[0, 0] + fill


def _moved(
    voxels: Int64[Tensor, "v 3"], matrix: Float32[Tensor, "3 3"], shape: Sequence[int]
) -> tuple[Int64[Tensor, "v 3"], Bool[Tensor, " v"]]:
    """The nearest voxels of the view, and which of them are inside; the exact inverse of where the view looks."""
    sizes = torch.tensor(shape, device=voxels.device)
    half = (sizes - 1).double() / 2
    back = torch.linalg.inv(matrix.double()).to(voxels.device)
    exact = (voxels - half) @ back.T + half
    places = (exact + 0.5).floor().long()
    return places, ((places >= 0) & (places < sizes)).all(dim=1)


def _is_permutation(matrix: Float32[Tensor, "3 3"], shape: Sequence[int]) -> bool:
    """Whether voxels fall on voxels and the shape stays: only flips, and quarter turns of equal sides."""
    whole = bool(((matrix.abs() == 1) | (matrix == 0)).all()) and bool((matrix.abs().sum(dim=0) == 1).all())
    return whole and tuple(shape) == tuple(shape[i] for i in matrix.abs().argmax(dim=1).tolist())


def _permuted(patch: Float32[Tensor, "x y z"], matrix: Float32[Tensor, "3 3"]) -> Float32[Tensor, "x y z"]:
    """Row `i` of the matrix names the view's axis, and its direction, along which the patch's axis `i` runs."""
    axes = matrix.abs().argmax(dim=1).tolist()
    signs = matrix.sum(dim=1).tolist()
    flipped = patch.flip([i for i in range(3) if signs[i] < 0])
    return flipped.permute(*(axes.index(i) for i in range(3)))


def _rotation(axis: int, angle: Float32[Tensor, " n"]) -> Float32[Tensor, "n 3 3"]:
    one, two = ((axis + 1) % 3, (axis + 2) % 3)
    matrix = torch.zeros(len(angle), 3, 3)
    matrix[:, axis, axis] = 1
    matrix[:, one, one] = matrix[:, two, two] = angle.cos()
    matrix[:, one, two] = -angle.sin()
    matrix[:, two, one] = angle.sin()
    return matrix
