"""Synthetic patients as a data set, to try everything without data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vox2vec.data.phantom import phantom
from vox2vec.data.sources.source import LeftOut
from vox2vec.data.sources.structures import BTCV_ORGANS
from vox2vec.volume import Volume

_VERSION = 1  # of the patients that a seed gives; cached ones of another version are not reused


@dataclass(frozen=True)
class Phantoms:
    """The phantoms of `count` seeds from `first` on, with the labels of BTCV's 13 organs."""

    count: int = 8
    first: int = 0
    spacing_mm: tuple[float, float, float] = (1.5, 1.5, 3.0)
    name: str = "phantoms"
    left_out: Sequence[LeftOut] = ()

    @property
    def label_names(self) -> Mapping[int, str]:
        return BTCV_ORGANS

    @property
    def ids(self) -> Sequence[str]:
        return sorted(f"phantom_{seed:04d}" for seed in range(self.first, self.first + self.count))

    def load(self, id: str) -> Volume:
        return phantom(self._seed(id), spacing_mm=self.spacing_mm).volume

    def labels(self, id: str) -> Volume | None:
        return phantom(self._seed(id), spacing_mm=self.spacing_mm).labels

    def path(self, id: str) -> str:
        return f"phantom, seed {self._seed(id)}"

    def only(self, id: str) -> "Phantoms":
        return self

    def identity(self, id: str, *, labels: bool = False) -> str:
        return f"phantom {_VERSION} {self._seed(id)} {self.spacing_mm}"

    def _seed(self, id: str) -> int:
        if id not in self.ids:
            raise ValueError(f"there are {self.count} phantoms from phantom_{self.first:04d} on; got {id!r}")
        return int(id.removeprefix("phantom_"))
