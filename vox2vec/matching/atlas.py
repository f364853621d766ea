"""Structures carried from labelled scans by fields: each voxel asks the voxels around the place where it lies there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, Integer, Shaped
from scipy.ndimage import maximum_filter
from torch import Tensor
from torch.nn import functional as F

from vox2vec.matching.field import Field
from vox2vec.matching.index import Index
from vox2vec.matching.mutual import both_compared, unit_vectors
from vox2vec.matching.neighbours import labels_of_votes, smoothed

_BLOCK_MM = 12.0  # voxels that ask together; the field is evaluated at the blocks' corners, and linear between
_LATTICE_MM = 3.0  # of the voxels that are asked, where voxels are smaller
_BLOCKS, _SPREADS = 0.75, 1.5  # and of the Gaussian around a place, from a block's centre to the farthest asked
_GATHERED = 2**24  # numbers of vectors held at a time, 64 MiB
_SLAB_BLOCKS = 8  # along x, that are voted on together


@dataclass(frozen=True, eq=False)
class Atlas:
    """A labelled scan, and where the points of a scan to be labelled lie in it.

    Attributes:
        index: of the labelled scan.
        classes: of its voxels, on the prepared grid: 0 is none of the structures, i the i-th of `label_names`.
        label_names: number to structure.
        field: from the scan to be labelled to this one.
    """

    index: Index
    classes: Integer[Tensor, "x y z"]
    label_names: Mapping[int, str]
    field: Field

    @classmethod
    def of(
        cls, scan: Index, index: Index, labels: Shaped[np.ndarray, "x y z"], label_names: Mapping[int, str]
    ) -> "Atlas":
        """Find the field between a scan and a labelled one.

        Args:
            labels: on the prepared grid; numbers that have no name are none of the structures.

        Raises:
            NoField: too few matches of the two agree.
            ValueError: labels of another grid, indices of other weights, level weights, or only one of them averaged.
        """
        if labels.shape != index.embedding.shape:
            raise ValueError(f"labels must be on the prepared grid, {index.embedding.shape}, got {labels.shape}")
        classes = torch.zeros(labels.shape, dtype=torch.int16)
        for i, number in enumerate(label_names):
            classes[torch.from_numpy(labels == number)] = i + 1
        return cls(index, classes, dict(label_names), Field.between(scan, index))


def labels_by_atlases(scan: Index, atlases: Sequence[Atlas], **options: float) -> Integer[np.ndarray, "x y z"]:
    """The number of the structure with the most votes on the prepared grid, 0 for none; options of `carried_votes`."""
    slabs = carried_votes(scan, atlases, **options)
    return labels_of_votes(slabs, scan.embedding.shape, list(atlases[0].label_names))


def carried_votes(
    scan: Index,
    atlases: Sequence[Atlas],
    *,
    temperature: float = 0.05,
    near_mm: float = 4.0,
    smoothing_mm: float = 0.0,
) -> Iterator[tuple[slice, Float32[np.ndarray, "c _ y z"]]]:
    """The share of votes of none and of each structure, slab by slab along x; 0 where no voxel asks or none answers.

    A voxel asks the body's voxels around the place where each atlas' field puts it: one at distance d, of cosine
    similarity s, votes for its class by `exp(s / temperature - d**2 / (2 * near_mm**2))`. The votes of all atlases are
    divided by their sum, so that an atlas counts for more where it is more alike. One that does not show a voxel's
    place says nothing about it.

    Args:
        scan: its voxels that may be found ask.
        smoothing_mm: standard deviation of a Gaussian that the shares are averaged by; 0: none.

    Raises:
        ValueError: no atlases, ones that name other structures, hold none of them or were embedded by other weights, or
            a number out of range.

    Source: Coupe et al., "Patch-based segmentation using expert priors", 2011, with vectors for patches, around the
    place of a field.
    """
    if not atlases:
        raise ValueError("at least one labelled scan is needed, got none")
    for atlas in atlases:
        both_compared(scan, atlas.index)
        if atlas.label_names != atlases[0].label_names:
            raise ValueError("labelled scans must name the same structures")
    names = atlases[0].label_names
    if not any(bool(atlas.classes.any()) for atlas in atlases):
        raise ValueError(f"none of the structures stands in the labels: {', '.join(names.values())}")
    if temperature <= 0 or near_mm <= 0 or smoothing_mm < 0:
        raise ValueError(
            f"temperature and near_mm must be above 0 and smoothing_mm not below, got {temperature}, {near_mm} and "
            f"{smoothing_mm}"
        )
    slabs = _slabs(_Blocks(scan), atlases, temperature, near_mm)
    if smoothing_mm:
        return smoothed(slabs, [smoothing_mm / s for s in scan.embedding.grid.spacing_mm])
    return slabs


class _Blocks:
    """Boxes of a scan's voxels that ask together, and where any field puts them."""

    def __init__(self, scan: Index) -> None:
        self.scan = scan
        spacing = scan.embedding.grid.spacing_mm
        self.size = torch.tensor([max(1, round(_BLOCK_MM / s)) for s in spacing])
        steps = [torch.arange(int(n)) for n in self.size]
        self._within = torch.stack(torch.meshgrid(*steps, indexing="ij"), dim=-1).reshape(-1, 3)
        self._last = torch.tensor(scan.embedding.shape) - 1
        asks = scan.may_be_found[None].float()
        size = self.size.tolist()
        self.first = F.max_pool3d(asks, size, size, ceil_mode=True)[0].nonzero() * self.size
        corners = torch.tensor(list(product((0, 1), repeat=3)))
        self._corners = corners
        share = ((self._within + 0.5) / self.size)[:, None]  # of the way from the lower corner to the upper
        self._shares = torch.where(corners > 0, share, 1 - share).prod(dim=-1)

    def voxels(self, some: Int64[Tensor, " b"]) -> tuple[Int64[Tensor, "b k 3"], Bool[Tensor, "b k"]]:
        """Of some blocks, those beyond the grid's end replaced by its last ones, and which ask."""
        voxels = self.first[some, None] + self._within
        shown = voxels.minimum(self._last)
        return shown, (shown == voxels).all(dim=-1) & self.scan.may_be_found[shown.unbind(dim=-1)]

    def places(self, field: Field, target: Index) -> Float[Tensor, "b k 3"]:
        """Where the voxels of all blocks lie, in fractional voxels of a field's target."""
        corners = self.first[:, None] + self._corners * self.size
        asked, which = corners.reshape(-1, 3).unique(dim=0, return_inverse=True)
        points_mm = field.at(self.scan.embedding.grid.to_mm(asked.numpy() - 0.5)).points_mm
        there = torch.from_numpy(target.embedding.grid.to_voxels(points_mm)).float()
        return self._shares @ there[which].reshape(-1, 8, 3)


class _Asked:
    """The voxels of an atlas around the blocks of a scan."""

    def __init__(self, atlas: Atlas, blocks: _Blocks, near_mm: float) -> None:
        self._atlas = atlas
        self._near_mm = near_mm
        self.places = blocks.places(atlas.field, atlas.index)
        self._spacing = torch.tensor(atlas.index.embedding.grid.spacing_mm).float()
        self._last = torch.tensor(atlas.index.embedding.shape) - 1
        steps = (_LATTICE_MM / self._spacing).round().clamp(min=1).long()
        reach_mm = _BLOCKS * _BLOCK_MM + _SPREADS * near_mm
        counts = (reach_mm / (steps * self._spacing)).long()
        reach = [step * torch.arange(-int(n), int(n) + 1) for n, step in zip(counts, steps, strict=True)]
        around = torch.stack(torch.meshgrid(*reach, indexing="ij"), dim=-1).reshape(-1, 3)
        self.around = around[(around * self._spacing).norm(dim=1) <= reach_mm]
        size = (2 * counts * steps + 1).tolist()
        near = torch.from_numpy(maximum_filter((atlas.classes > 0).numpy().astype(np.uint8), size))
        centres = self._centres(self.places)
        within = centres.clamp(min=0).minimum(self._last)
        reached = ((centres - within).abs() <= counts * steps).all(dim=1)
        self.sees_structures: Bool[Tensor, " b"] = reached & (near[tuple(within.T)] > 0)

    def votes(
        self, some: Int64[Tensor, " b"], vectors: Float[Tensor, "b k d"], temperature: float, num_classes: int
    ) -> Float[Tensor, "b k c"]:
        """What is said about the voxels of some blocks, whose vectors are given."""
        index = self._atlas.index
        places = self.places[some]
        asked = self._centres(places)[:, None] + self.around
        shown = asked.clamp(min=0).minimum(self._last)
        answers = (shown == asked).all(dim=-1) & index.may_be_found[shown.unbind(dim=-1)]
        theirs = unit_vectors(index, shown.reshape(-1, 3).numpy()).unflatten(0, shown.shape[:2])
        off = torch.cdist(places * self._spacing, asked * self._spacing) / self._near_mm
        said = ((vectors @ theirs.transpose(1, 2) - 1) / temperature - off.square() / 2).exp()
        said = said.masked_fill(~answers[:, None], 0)
        return said @ F.one_hot(self._atlas.classes[shown.unbind(dim=-1)].long(), num_classes).float()

    @staticmethod
    def _centres(places: Float[Tensor, "b k 3"]) -> Int64[Tensor, "b 3"]:
        return places.mean(dim=1).round().long()


def _slabs(
    blocks: _Blocks, atlases: Sequence[Atlas], temperature: float, near_mm: float
) -> Iterator[tuple[slice, np.ndarray]]:
    scan, num_classes = blocks.scan, len(atlases[0].label_names) + 1
    asked = [_Asked(atlas, blocks, near_mm) for atlas in atlases]
    worth_asking = torch.stack([one.sees_structures for one in asked]).any(dim=0)
    x, y, z = scan.embedding.shape
    rows = max(1, _GATHERED // (max(len(one.around) for one in asked) * scan.embedding.num_channels))
    for start in range(0, x, _SLAB_BLOCKS * int(blocks.size[0])):
        stop = min(start + _SLAB_BLOCKS * int(blocks.size[0]), x)
        votes = torch.zeros(num_classes, stop - start, y, z)
        here = worth_asking & (blocks.first[:, 0] >= start) & (blocks.first[:, 0] < stop)
        for some in here.nonzero()[:, 0].split(rows):
            voxels, asks = blocks.voxels(some)
            vectors = unit_vectors(scan, voxels.reshape(-1, 3).numpy()).unflatten(0, voxels.shape[:2])
            said = torch.stack([one.votes(some, vectors, temperature, num_classes) for one in asked]).sum(dim=0)
            said = said / said.sum(dim=-1, keepdim=True).clamp(min=1e-30)
            i, j, k = voxels[asks].T
            votes[:, i - start, j, k] = said[asks].T
        yield slice(start, stop), votes.numpy()
