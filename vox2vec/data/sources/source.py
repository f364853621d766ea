"""What a data set is to the rest: ids, a scan for each, labels where there are any, and what was left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from vox2vec.data.sources.stored import LabelFile, ScanFile
from vox2vec.volume import Volume


@dataclass(frozen=True)
class LeftOut:
    """Something in a data set's folder that is no scan to learn from, and why."""

    path: str
    reason: str


@runtime_checkable
class Source(Protocol):
    """A data set: made in one process, pickled to others.

    Attributes:
        name: of the data set, such as "AMOS".
        left_out: what listing passed over. Scans that only reading shows to be broken are refused by `load`.
        label_names: number to structure; empty where unknown, or where there are no labels.
    """

    @property
    def name(self) -> str: ...
    @property
    def left_out(self) -> Sequence[LeftOut]: ...
    @property
    def label_names(self) -> Mapping[int, str]: ...

    @property
    def ids(self) -> Sequence[str]:
        """Sorted; the part before a "/" is the patient."""

    def load(self, id: str) -> Volume:
        """The scan in HU, axes as stored; a ValueError that says why it cannot be one."""

    def labels(self, id: str) -> Volume | None:
        """Integers on the scan's own grid, 0 for background; None where the scan has none."""

    def path(self, id: str) -> str:
        """Where the scan lies, for reports."""

    def only(self, id: str) -> "Source":
        """The same with at least this scan: what travels to the process that reads it."""

    def identity(self, id: str, *, labels: bool = False) -> str:
        """Changes when the scan's files do (path, size, time), or with `labels` its label's; reads no image."""


@dataclass(frozen=True)
class ListedSource:
    """A data set whose listing found a file, or a series of files, for each scan."""

    name: str
    scans: Mapping[str, ScanFile]
    label_files: Mapping[str, LabelFile] = field(default_factory=dict)
    left_out: Sequence[LeftOut] = ()
    label_names: Mapping[int, str] = field(default_factory=dict)

    @property
    def ids(self) -> Sequence[str]:
        return sorted(self.scans)

    def load(self, id: str) -> Volume:
        return self._scan(id).image()

    def labels(self, id: str) -> Volume | None:
        self._scan(id)
        return self.label_files[id].labels() if id in self.label_files else None

    def path(self, id: str) -> str:
        return str(self._scan(id))

    def identity(self, id: str, *, labels: bool = False) -> str:
        files: list[ScanFile | LabelFile] = [
            self._scan(id),
            *([self.label_files[id]] if labels and id in self.label_files else []),
        ]
        return "\n".join(file.identity() for file in files)

    def only(self, id: str) -> "ListedSource":
        labels = {id: self.label_files[id]} if id in self.label_files else {}
        return replace(self, scans={id: self._scan(id)}, label_files=labels, left_out=())

    def with_labels_only(self) -> "ListedSource":
        """The same without the scans that have no labels."""
        return replace(self, scans={id: file for id, file in self.scans.items() if id in self.label_files})

    def _scan(self, id: str) -> ScanFile:
        if id not in self.scans:
            raise ValueError(f"{self.name} has no scan {id!r}; it holds {len(self.scans)}, such as {self.ids[:3]}")
        return self.scans[id]


def check_same_grid(scan: Volume, labels: Volume, *, name: str) -> Volume:
    """Labels that lie on their scan's grid, given exactly its affine; a ValueError where they lie elsewhere."""
    corners = [[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    ends = [[c * (n - 1) for c, n in zip(corner, scan.shape, strict=True)] for corner in corners]
    apart_voxels = abs(scan.to_voxels(labels.to_mm(ends)) - ends).max()
    if labels.shape != scan.shape or apart_voxels > 0.5:
        raise ValueError(
            f"{name}: labels must lie on their scan's grid, got shape {labels.shape} for a scan of {scan.shape}, "
            f"{apart_voxels:.1f} voxels apart at the worst corner; resample them to the scan, or check that they belong"
        )
    return Volume(labels.image, scan.affine)
