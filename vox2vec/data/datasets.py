"""Batches for training, each with a random stream of its own: the same for any number of workers, and on resuming."""

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Int16, Int64
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from vox2vec.data.cache import Cache
from vox2vec.data.entry import Entry
from vox2vec.data.patches import LabelledScan, draw_labelled
from vox2vec.data.views import MAX_PAIRS, draw_pair

_logger = logging.getLogger(__name__)
_Drawn = TypeVar("_Drawn")


class PairBatch(NamedTuple):
    """`n` pairs of patches.

    Attributes:
        patches_hu: the first and the second patches, unwindowed.
        voxels: for each pair (2, v, 3): row `i` of both is the same place, as an index into each patch.
        ids: of each pair's CT.
        number: of the batch in its stream.
    """

    patches_hu: Int16[Tensor, "2 n 1 x y z"]
    voxels: list[Int64[Tensor, "2 v 3"]]
    ids: list[str]
    number: int


class LabelledBatch(NamedTuple):
    """`n` patches with their labels, the mask of the body, and the CT of each."""

    patches_hu: Int16[Tensor, "n 1 x y z"]
    labels: Int64[Tensor, "n x y z"]
    body: Bool[Tensor, "n x y z"]
    ids: list[str]


class PairBatches(Dataset[PairBatch]):
    """Batch `i` of an endless stream of pairs, drawn from the CTs of a cache.

    Every pass over the CTs is in a new random order. An unreadable CT is logged and another taken. To a DataLoader it
    goes with `batch_size=None`, a `BatchOrder` as sampler and `one_thread` as `worker_init_fn`.

    Args:
        entries: of the cache, such as `large_enough(cache.entries(), patch_size)`.
        batch_size: pairs a batch.
        patches_per_volume: pairs drawn from one CT: all of a batch, as released, or 1 for negatives of many patients.
        balanced: draw from each data set equally often, however many CTs it has, rather than from each CT.
        seed: of the whole stream; ranks share it.

    Raises:
        ValueError: no entries, or a batch that `patches_per_volume` does not divide.

    Source: docs/method.md section 3; arXiv 2307.14725, section 4.
    """

    def __init__(
        self,
        cache: Cache,
        entries: Sequence[Entry],
        *,
        seed: int,
        batch_size: int = 10,
        patches_per_volume: int = 10,
        balanced: bool = False,
        max_pairs: int = MAX_PAIRS,
    ) -> None:
        if batch_size < 1 or patches_per_volume < 1 or batch_size % patches_per_volume:
            raise ValueError(
                f"patches_per_volume must divide the batch of {batch_size} pairs, got {patches_per_volume}"
            )
        self._volumes = _Volumes(entries, seed, balanced=balanced)
        self._cache, self._seed, self._max_pairs = cache, seed, max_pairs
        self._num_volumes, self._patches_per_volume = batch_size // patches_per_volume, patches_per_volume

    def __getitem__(self, index: int) -> PairBatch:
        rng = np.random.default_rng([self._seed, index])
        patch_size = self._cache.recipe.patch_size
        pairs, ids = [], []
        for slot in range(index * self._num_volumes, (index + 1) * self._num_volumes):
            entry, scan = self._volumes.read(slot, self._cache.open)
            for _ in range(self._patches_per_volume):
                pairs.append(draw_pair(scan, rng, patch_size=patch_size, max_pairs=self._max_pairs))
                ids.append(entry.id)
        patches = torch.from_numpy(np.stack([pair.patches_hu for pair in pairs], axis=1))
        return PairBatch(patches[:, :, None], [torch.from_numpy(pair.voxels) for pair in pairs], ids, index)


class LabelledBatches(Dataset[LabelledBatch]):
    """Batch `i` of an endless stream of labelled patches, one from each CT drawn; used as `PairBatches` is.

    Args:
        entries: of a cache that was warmed with labels.
        class_probability: of a patch around a voxel of a random class, rather than of the body.

    Source: docs/method.md section 4.
    """

    def __init__(
        self,
        cache: Cache,
        entries: Sequence[Entry],
        *,
        seed: int,
        batch_size: int = 7,
        class_probability: float = 0.5,
    ) -> None:
        unlabelled = [entry.id for entry in entries if "labels" not in entry.files]
        if unlabelled:
            raise ValueError(f"entries must be cached with labels, {len(unlabelled)} are not, such as {unlabelled[0]}")
        if batch_size < 1:
            raise ValueError(f"a batch must hold at least one patch, got batch_size {batch_size}")
        self._volumes = _Volumes(entries, seed)
        self._cache, self._seed, self._batch_size = cache, seed, batch_size
        self._class_probability = class_probability
        self._opened: dict[str, LabelledScan] = {}

    def __getitem__(self, index: int) -> LabelledBatch:
        rng = np.random.default_rng([self._seed, index])
        patches, ids = [], []
        for slot in range(index * self._batch_size, (index + 1) * self._batch_size):
            entry, labelled = self._volumes.read(slot, self._labelled)
            patches.append(
                draw_labelled(
                    labelled,
                    rng,
                    patch_size=self._cache.recipe.patch_size,
                    class_probability=self._class_probability,
                )
            )
            ids.append(entry.id)
        return LabelledBatch(
            torch.from_numpy(np.stack([patch.image_hu for patch in patches]))[:, None],
            torch.from_numpy(np.stack([patch.labels for patch in patches])),
            torch.from_numpy(np.stack([patch.body for patch in patches])),
            ids,
        )

    def _labelled(self, entry: Entry) -> LabelledScan:
        if entry.key not in self._opened:
            self._opened[entry.key] = LabelledScan(self._cache.open(entry))
        return self._opened[entry.key]


class BatchOrder(Sampler[int]):
    """Which batches of an endless stream one rank takes, without end; a state of one number.

    Training calls `advance` after each batch: workers read ahead, so only it knows which batches were used. Iterating
    anew goes on from there.
    """

    def __init__(self, *, rank: int = 0, world_size: int = 1) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"the rank must lie below the world size, got rank {rank} of {world_size}")
        self._rank, self._world_size = rank, world_size
        self._next = 0

    def __iter__(self) -> Iterator[int]:
        return (batch * self._world_size + self._rank for batch in count(self._next))

    def advance(self) -> None:
        """One more batch was used."""
        self._next += 1

    def state_dict(self) -> dict[str, int]:
        return {"next_batch": self._next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._next = int(state["next_batch"])


def large_enough(entries: Sequence[Entry], patch_size: tuple[int, int, int]) -> list[Entry]:
    """Those that hold a whole patch, as published; what is dropped is logged."""
    kept = [entry for entry in entries if all(n >= size for n, size in zip(entry.shape, patch_size, strict=True))]
    if len(kept) < len(entries):
        _logger.warning("%d of %d CTs are smaller than a patch, left out", len(entries) - len(kept), len(entries))
    return kept


def labels_in(cache: Cache, entries: Sequence[Entry]) -> dict[int, str]:
    """Every label number of these CTs, named by itself, where a data set names none."""
    numbers: set[int] = set()
    for entry in entries:
        numbers |= set(LabelledScan(cache.open(entry)).voxels)
    return {number: str(number) for number in sorted(numbers)}


def one_thread(worker: int) -> None:
    """A DataLoader's `worker_init_fn`: workers are many, so each computes in one thread."""
    torch.set_num_threads(1)


class _Volumes:
    """An endless random order of the entries: pass after pass, each a permutation of its own.

    Balanced, the data sets take turns, each with such an order of its own. Each round of turns is in a random order
    too: in a fixed one, ranks that take every n-th batch would each meet some of the data sets only.
    """

    def __init__(self, entries: Sequence[Entry], seed: int, *, balanced: bool = False) -> None:
        if not entries:
            raise ValueError("there must be at least one CT in the cache for this recipe, got none; warm the cache")
        by_source: dict[str, list[Entry]] = {}
        for entry in entries:
            by_source.setdefault(entry.source if balanced else "", []).append(entry)
        self._turns, self._seed = list(by_source.values()), seed

    def read(self, slot: int, opened: Callable[[Entry], _Drawn]) -> tuple[Entry, _Drawn]:
        """The entry of a slot, opened; where it is broken the next one of its data set."""
        slot, turn = divmod(slot, len(self._turns))
        turns = np.random.default_rng([self._seed, slot, 2]).permutation(len(self._turns))
        entries = self._turns[turns[turn]]
        n = len(entries)
        for shift in range(n):
            order = np.random.default_rng([self._seed, slot // n, 1]).permutation(n)
            entry = entries[order[(slot + shift) % n]]
            try:
                return entry, opened(entry)
            except ValueError as error:
                _logger.warning("skipped a CT that cannot be read: %s", error)
        raise ValueError(f"none of the {n} cached CTs of {entries[0].source} can be read; run vox2vec cache verify")
