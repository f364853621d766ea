"""Which CTs of a cache a pre-training learns from, which its probe keeps to itself, and which one is watched."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vox2vec.data.cache import Cache
from vox2vec.data.datasets import labels_in, large_enough
from vox2vec.data.entry import Entry
from vox2vec.data.sources.source import Source
from vox2vec.data.splits import published_split

_HOLD_OUT_FROM = 10  # CTs, of which the monitor's one is not trained on; of fewer none can be spared


class Probed(NamedTuple):
    """Labelled CTs that heads learn from, others that they are judged on, and the structures: number to name."""

    train: Sequence[Entry]
    val: Sequence[Entry]
    names: Mapping[int, str]


@dataclass(frozen=True)
class Chosen:
    """
    Attributes:
        learned: CTs to learn from, each once.
        watched: the one that is looked at while it learns.
        probe: None where there is no probe.
        left_out: CTs of the cache that are the probe's, so not learned from.
    """

    learned: Sequence[Entry]
    watched: Entry
    probe: Probed | None
    left_out: int

    @property
    def told(self) -> str:
        """How many CTs are learned from, and how many are not, and why."""
        told = f"{len(self.learned)} CTs of {len({entry.source for entry in self.learned})} data sets"
        return f"{told}, without {self.left_out} that are the probe's" if self.left_out else told


def chosen(cache: Cache, probe: Source | None, *, limit: int | None = None, spare_one: bool = True) -> Chosen:
    """Of the CTs in the cache all but the probe's, whether cached with labels or without: a CT is the file it is of.

    Args:
        probe: all of its CTs, which are in the cache with labels; heads learn on its published fold 0.
        limit: the first so many CTs to learn from.
        spare_one: without a probe, learn not from the last of ten or more CTs: it is the one watched.

    Raises:
        ValueError: no CT of the recipe, at least as large as a patch, is left to learn from.
    """
    cached = cache.entries()
    held = {os.path.realpath(probe.path(id)) for id in probe.ids} if probe is not None else set()
    scans = _once(cached)
    free = [entry for entry in scans if os.path.realpath(entry.path) not in held]
    learned = large_enough(free, cache.recipe.patch_size)[:limit]
    if not learned:
        besides = ", besides the probe's" if held else ""
        raise ValueError(
            f"{cache.folder} must hold CTs of {cache.recipe.spacing_mm} mm, at least {cache.recipe.patch_size} voxels"
            f"{besides}; warm it first: vox2vec warmup-cache, with the same --spacing"
        )
    probed = _probed(cache, cached, probe) if probe is not None else None
    watched = probed.val[0] if probed is not None else learned[-1]
    if probed is None and len(learned) >= _HOLD_OUT_FROM and spare_one:
        learned = learned[:-1]
    return Chosen(learned, watched, probed, len(scans) - len(free))


def _once(entries: Sequence[Entry]) -> list[Entry]:
    """Without those that are there with labels and without: each CT counts once."""
    plain = {_place(entry) for entry in entries if "labels" not in entry.files}
    return [entry for entry in entries if "labels" not in entry.files or _place(entry) not in plain]


def _place(entry: Entry) -> str:
    """What a CT is, of which a file holds one; a folder may hold several series."""
    return f"{os.path.realpath(entry.path)} {entry.shape} {entry.affine}"


def _probed(cache: Cache, cached: Sequence[Entry], probe: Source) -> Probed:
    keys = {cache.key(probe, id, labels=True) for id in probe.ids}
    entries = {entry.id: entry for entry in cached if entry.key in keys}
    split = published_split(list(entries), 0)
    names = probe.label_names or labels_in(cache, list(entries.values()))
    return Probed([entries[id] for id in split.train], [entries[id] for id in split.val], names)
