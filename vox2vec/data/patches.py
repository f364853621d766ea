"""Labelled patches for probing and fine-tuning."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int16, Int32, Int64

from vox2vec.data.cached_scan import CachedScan
from vox2vec.data.views import box_around
from vox2vec.geometry import Box
from vox2vec.recipe import PAPER


@dataclass(frozen=True, eq=False)
class LabelledPatch:
    """A patch (x, y, z) of a labelled CT: HU, labels, body, and where it lies in the scan's grid."""

    image_hu: Int16[np.ndarray, "x y z"]
    labels: Int64[np.ndarray, "x y z"]
    body: Bool[np.ndarray, "x y z"]
    box: Box


@dataclass(frozen=True, eq=False)
class LabelledScan:
    """A cached CT with the voxels of each of its classes at hand: 4 bytes for each labelled voxel."""

    scan: CachedScan

    @cached_property
    def voxels(self) -> dict[int, Int32[np.ndarray, " v"]]:
        """Class to the flat indices of its voxels; classes without a voxel are not there, background is none."""
        x, y, z = self.scan.shape
        labels = self.scan.labels(Box((0, 0, 0), (x, y, z))).ravel()
        labelled = np.flatnonzero(labels > 0).astype(np.int32)
        order = np.argsort(labels[labelled], kind="stable")
        classes, starts = np.unique(labels[labelled[order]], return_index=True)
        return dict(zip(classes.tolist(), np.split(labelled[order], starts)[1:], strict=True))


def draw_labelled(
    labelled: LabelledScan,
    rng: np.random.Generator,
    *,
    patch_size: tuple[int, int, int] = PAPER.patch_size,
    class_probability: float = 0.5,
) -> LabelledPatch:
    """A patch that holds a random voxel: with `class_probability` of a random class of the scan, else of the body.

    The class is uniform among those with a voxel in the scan, then the voxel among the class's; a scan without labels
    gives body voxels alone. The box is uniform among those inside the scan that hold the voxel.

    Source: docs/method.md section 4.
    """
    scan = labelled.scan
    by_class = rng.random() < class_probability
    if by_class and labelled.voxels:
        chosen = sorted(labelled.voxels)[rng.integers(len(labelled.voxels))]
        voxel = np.array(np.unravel_index(rng.choice(labelled.voxels[chosen]), scan.shape), dtype=np.int64)
    else:
        voxel = scan.body_voxels(rng.integers(scan.entry.body_voxels, size=1))[0]
    box = box_around(voxel, scan.shape, patch_size, rng)
    return LabelledPatch(scan.image_hu(box), scan.labels(box).astype(np.int64), scan.body(box), box)
