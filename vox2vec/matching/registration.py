"""One scan laid onto another, densely and without folds: the field of their vectors, then their local contrast."""

from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Shaped
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree
from torch import Tensor

from vox2vec.inference.embed import Embedder
from vox2vec.matching.affine import robust_affines
from vox2vec.matching.descent import Images, descended, solved
from vox2vec.matching.displacement import Displacement
from vox2vec.matching.field import Field
from vox2vec.matching.jacobian import unfolded
from vox2vec.matching.lattice import halved, nodes_of, refined
from vox2vec.matching.voted_labels import voted_labels
from vox2vec.nn.fpn import FPN3d
from vox2vec.preprocessing.orientation import canonical
from vox2vec.preprocessing.resampling import resample
from vox2vec.reading.load import load_volume
from vox2vec.reading.points import Points, write_points
from vox2vec.reading.values import AIR_HU
from vox2vec.volume import Volume

SPACING_MM = 2.0
"""Of the finest images that are compared."""

SMOOTHNESS = 0.3
"""Chosen on bent copies and on two phases of one patient (median and 95 % of errors, mm: 1.0 and 2.6; see issue 21)."""

_STEPS = (8, 8, 5)  # at most, coarse to fine
_VOXELS = 2**21  # of the finest image at most: a large scan is compared coarser
_SHOWN_HU = (-1000.0, 500.0)
_HELD = 0.02  # smoothness of what the field alone says, against weights of at most 1
_NEAR_MM = 30.0  # of a pair of the field, within which its word counts


@dataclass(frozen=True, eq=False)
class Registration:
    """Where every point of the fixed scan lies in the moving one.

    Attributes:
        displacement: of the points of the fixed scan.
        field: that it began with.
        fixed, moving: the scans.
    """

    displacement: Displacement
    field: Field
    fixed: Volume
    moving: Volume

    @property
    def folding(self) -> float:
        """The share of the lattice's cells that are turned inside out: 0."""
        return self.displacement.folding

    def points(self, points_mm: Any) -> Float64[np.ndarray, "v 3"]:
        """Where points (v, 3) of the fixed scan lie in the moving scan, both RAS+ millimetres; NaN stays NaN."""
        return self.displacement.at(points_mm)

    def supported(self, points_mm: Any) -> Bool[np.ndarray, " v"]:
        """Whether points (v, 3) of the fixed scan have a place in the moving one: matches near, and inside of it."""
        inside = _inside(self.moving, self.points(points_mm))
        return np.asarray(inside & self.field.supported(points_mm))

    def onto(self, volume: Volume | None = None, *, fill: float = AIR_HU) -> Volume:
        """The moving scan, or another volume in its frame, on the fixed scan's grid, linear; `fill` beyond it."""
        volume = self.moving if volume is None else volume
        image = np.empty(self.fixed.shape, np.float32)
        for i, places in enumerate(self._slabs()):
            voxels = volume.to_voxels(places)
            values = map_coordinates(volume.image, voxels.T, np.float32, order=1, mode="nearest")
            image[i] = np.where(_inside(volume, places), values, fill).reshape(image[i].shape)
        return Volume(image, self.fixed.affine)

    def labels(self, labels: Volume, *, fill: int = 0) -> Volume:
        """Labels of the moving scan on the fixed scan's grid: at each voxel the one of highest linear weight."""
        image: Shaped[np.ndarray, "x y z"] = np.empty(self.fixed.shape, labels.image.dtype)
        for i, places in enumerate(self._slabs()):
            values = voted_labels(labels.image, labels.to_voxels(places))
            image[i] = np.where(_inside(labels, places), values, fill).reshape(image[i].shape)
        return Volume(image, self.fixed.affine)

    def save(self, path: str | PathLike[str]) -> None:
        """Write ITK's displacement field, see `Displacement.save`."""
        self.displacement.save(path)

    def save_points(self, points: Points, path: str | PathLike[str]) -> None:
        """Write where points of the fixed scan lie in the moving one, in their own system, and which are `supported`.

        As .csv, .fcsv or .mrk.json, see `write_points`.
        """
        told = ["yes" if one else "no" for one in self.supported(points.points_mm)]
        moved = Points(points.names, self.points(points.points_mm), points.system)
        write_points(moved, path, columns={"supported": told})

    def _slabs(self) -> Any:
        """For each first index of the fixed grid where its voxels lie in the moving scan."""
        plane = np.stack(np.meshgrid([0], *map(np.arange, self.fixed.shape[1:]), indexing="ij"), axis=-1).reshape(-1, 3)
        for i in range(self.fixed.shape[0]):
            yield self.points(self.fixed.to_mm(plane + np.array([i, 0, 0])))


def register(
    fixed: Volume | str | PathLike[str],
    moving: Volume | str | PathLike[str],
    backbone: FPN3d | Embedder,
    *,
    spacing_mm: float = SPACING_MM,
    smoothness: float = SMOOTHNESS,
) -> Registration:
    """Find where every point of the fixed scan lies in the moving one: scans of one patient or two, of CT.

    Their vectors say where to begin (`Field.between`), wherever the scans lie in the world and however far they
    overlap; local contrast settles the rest at three scales. The map does not fold.

    Args:
        fixed, moving: in HU, any orientation, or the paths of such.
        backbone: an `Embedder` is kept between scans.
        spacing_mm: of the finest images that are compared; coarser for a scan of more than 2**21 such voxels.
        smoothness: see `descended`.

    Raises:
        NoField: too few matches of the scans agree with each other.
        ValueError: a scan cannot be read or embedded, or a number is not positive.
    """
    fixed, moving = (one if isinstance(one, Volume) else load_volume(one) for one in (fixed, moving))
    embedder = backbone if isinstance(backbone, Embedder) else Embedder(backbone, progress=False)
    embeddings = embedder(fixed), embedder(moving)
    return registered(fixed, moving, Field.between(*embeddings), spacing_mm=spacing_mm, smoothness=smoothness)


def registered(
    fixed: Volume,
    moving: Volume,
    field: Field,
    *,
    spacing_mm: float = SPACING_MM,
    smoothness: float = SMOOTHNESS,
) -> Registration:
    """`register` of scans whose field is known."""
    if spacing_mm <= 0 or smoothness <= 0:
        raise ValueError(f"spacing_mm and smoothness must be positive, got {spacing_mm} and {smoothness}")
    extent_mm = float(np.prod(np.array(fixed.shape) * fixed.spacing_mm))
    scales = _scales(fixed, moving, max(spacing_mm, (extent_mm / _VOXELS) ** (1 / 3)))
    rest = _of_field(field, scales[0])
    for i, (images, steps) in enumerate(zip(scales, _STEPS, strict=True)):
        straight = _straight(field, images.nodes_mm())
        rest = refined(rest, straight.shape[1:]) if i else rest
        rest = descended(images, rest, straight, smoothness=smoothness, steps=steps)
    pitch = 2 * images.spacing_mm
    affine = np.diag([pitch, pitch, pitch, 1.0])
    affine[:3, 3] = images.fixed_mm.numpy()
    vectors = unfolded((straight + rest).movedim(0, -1).double().numpy(), (pitch, pitch, pitch))
    return Registration(Displacement(vectors, affine), field, fixed, moving)


def _scales(fixed: Volume, moving: Volume, spacing_mm: float) -> list[Images]:
    """Coarse to fine, each spacing half of the one before."""
    (one, one_mm), (other, other_mm) = (_shown(scan, spacing_mm) for scan in (fixed, moving))
    scales = [Images(one, other, one_mm, other_mm, spacing_mm)]
    while len(scales) < len(_STEPS):
        last = scales[0]
        coarser = Images(halved(last.fixed), halved(last.moving), one_mm, other_mm, 2 * last.spacing_mm)
        scales.insert(0, coarser)
    return scales


def _shown(scan: Volume, spacing_mm: float) -> tuple[Float[Tensor, "x y z"], Float[Tensor, "3"]]:
    """The scan from 0 to 1 at a spacing, blocks of finer voxels averaged first; and where its voxel 0 is."""
    upright = canonical(scan)
    low, high = _SHOWN_HU
    image, affine = np.clip(upright.image, low, high, dtype=np.float32), upright.affine.copy()
    for axis, s in enumerate(upright.spacing_mm):
        count = min(int(spacing_mm / s + 1e-6), image.shape[axis])
        if count > 1:
            size = image.shape[axis] // count
            image = np.take(image, np.arange(size * count), axis=axis)
            image = image.reshape(*image.shape[:axis], size, count, *image.shape[axis + 1 :]).mean(axis=axis + 1)
            affine[:3, 3] += affine[:3, axis] * (count - 1) / 2
            affine[:3, axis] *= count
    seen = resample(Volume(image, affine), (spacing_mm, spacing_mm, spacing_mm))
    scaled = torch.from_numpy(np.ascontiguousarray((seen.image - low) / (high - low), np.float32))
    return scaled, torch.from_numpy(seen.affine[:3, 3].astype(np.float32))


def _straight(field: Field, places_mm: Float[Tensor, "3 x y z"]) -> Float[Tensor, "3 x y z"]:
    """How the affine map of all pairs moves places."""
    centre = field.source_mm.mean(axis=0)
    fit = robust_affines(field.source_mm[None], field.target_mm[None], centre[None], prior=field.linear)
    points = places_mm.flatten(1).T.double().numpy()
    moved = (points - centre) @ fit.linear[0].T + fit.at[0] - points
    return torch.from_numpy(moved.T.astype(np.float32)).unflatten(1, places_mm.shape[1:])


def _of_field(field: Field, images: Images) -> Float[Tensor, "3 x y z"]:
    """What the field says of the nodes beyond the affine map, as far as it is sure, smooth where it is not."""
    places = images.nodes_mm()
    points = places.flatten(1).T.double().numpy()
    said = field.at(points)
    far_mm, _ = cKDTree(field.source_mm).query(points)
    sure = torch.from_numpy(np.exp(-((far_mm / _NEAR_MM) ** 2)) / (1 + said.spread_mm) ** 2).float()
    sure = sure.unflatten(0, nodes_of(images.fixed.shape))
    moved = torch.from_numpy((said.points_mm - points).T.astype(np.float32)).unflatten(1, places.shape[1:])
    curvature = torch.zeros(6, *sure.shape)
    curvature[:3] = sure
    return solved(curvature, sure * (moved - _straight(field, places)), _HELD, rounds=200)


def _inside(volume: Volume, points_mm: Float64[np.ndarray, "v 3"]) -> Bool[np.ndarray, " v"]:
    voxels = volume.to_voxels(points_mm)
    return np.asarray(((voxels >= -0.5) & (voxels <= np.array(volume.shape) - 0.5)).all(axis=1))
