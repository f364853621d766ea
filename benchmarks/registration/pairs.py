"""The pairs of scans that registration is measured on, and what is known about each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.accuracy import landmarks_of
from benchmarks.registration.answer import on_cubes
from vox2vec.data.sources.labelled import labelled_data
from vox2vec.preprocessing.body import body_mask
from vox2vec.reading.load import load_volume
from vox2vec.volume import Volume

POINTS = 100  # of the body, where the identity is nearly true
OPENKBP_PAIRS = 10


@dataclass(frozen=True)
class Pair:
    """Two scans; points of `fixed` are looked for in `moving`, and labels of `moving` are carried to `fixed`.

    Attributes:
        group: whose figures are taken together.
        spacing_mm: of the cubes that the ways of others work on.
        truth: what the error is measured by.
    """

    name: str
    group: str
    fixed: Path
    moving: Path
    spacing_mm: float
    truth: Literal["landmarks", "identity", "labels", "none"]

    @property
    def scans(self) -> tuple[Volume, Volume]:
        """Fixed and moving."""
        return load_volume(self.fixed), load_volume(self.moving)

    @property
    def labels(self) -> tuple[Volume, Volume]:
        """Of fixed and moving."""
        source = labelled_data(self.fixed.parent)
        fixed, moving = (source.labels(path.name.removesuffix(".nii.gz")) for path in (self.fixed, self.moving))
        return fixed, moving

    @property
    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Points of the fixed scan and where they lie in the moving one, RAS+ millimetres; none where none is known."""
        if self.truth == "landmarks":
            return landmarks_of(self.fixed.parent / "lung_landmarks_LPS.csv")
        if self.truth == "identity":
            points = shared_points(*(on_cubes(scan, self.spacing_mm) for scan in self.scans))
            return points, points
        return np.zeros((0, 3)), np.zeros((0, 3))


def shared_points(fixed: Volume, moving: Volume, number: int = POINTS) -> np.ndarray:
    """Points in the body of both scans where they lie now, drawn by chance, always the same."""
    voxels = np.random.default_rng(21).permutation(np.argwhere(body_mask(fixed.image)))
    there = np.floor(moving.to_voxels(fixed.to_mm(voxels)) + 0.5).astype(int)
    inside = ((there >= 0) & (there < moving.shape)).all(axis=1)
    inside[inside] = body_mask(moving.image)[tuple(there[inside].T)]
    return fixed.to_mm(voxels[inside][:number])


def pairs_of(data: Path) -> list[Pair]:
    """All of ../shared/data.

    The lung pair; the abdomen of HCC_007 in two phases of each of two days, where the identity is true but for breath,
    and from day to day, where nothing is known; a chest and an abdomen of two patients both ways; and `OPENKBP_PAIRS`
    pairs of 20 of OpenKBP's 51 labelled patients, drawn once.
    """
    pairs, labelled, openkbp = data / "pairs", data / "labelled", data / "openkbp" / "labelled"
    hcc = {name: pairs / f"HCC_007_{name}.nii.gz" for name in ("1997", "1997_b", "1998", "1998_art")}
    chest, abdomen = labelled / "LIDC-IDRI-0001.nii.gz", labelled / "abdomen_3mm.nii.gz"
    phases, times = "HCC_007, two phases of one day (two pairs)", "HCC_007, eleven weeks apart"
    lung = (pairs / "lung_baseline.mha", pairs / "lung_followup.mha")
    found = [
        Pair("lung", "Lung pair, 51 landmarks", *lung, 1.5, "landmarks"),
        Pair("1997 phases", phases, hcc["1997"], hcc["1997_b"], 2.0, "identity"),
        Pair("1998 phases", phases, hcc["1998"], hcc["1998_art"], 2.0, "identity"),
        Pair("1997 1998", times, hcc["1997"], hcc["1998"], 2.0, "none"),
        Pair("chest to abdomen", "Torso, chest to abdomen, 39 structures", abdomen, chest, 2.5, "labels"),
        Pair("abdomen to chest", "Torso, abdomen to chest, 39 structures", chest, abdomen, 2.5, "labels"),
    ]
    patients = sorted(path for path in openkbp.glob("pt_*.nii.gz") if not path.name.endswith("_labels.nii.gz"))
    chosen = [patients[i] for i in np.random.default_rng(21).permutation(len(patients))[: 2 * OPENKBP_PAIRS]]
    group = f"OpenKBP, labels of one patient carried to another ({OPENKBP_PAIRS} pairs), 7 structures"
    for moving, fixed in zip(chosen[::2], chosen[1::2], strict=True):
        name = f"{moving.name.removesuffix('.nii.gz')} to {fixed.name.removesuffix('.nii.gz')}"
        found.append(Pair(name, group, fixed, moving, 3.0, "labels"))
    return found
