"""One fold of an evaluation without training: each voxel of a test CT asks the nearest voxels of the labelled CTs."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from vox2vec.data.cache import Cache
from vox2vec.data.datasets import LabelledBatches
from vox2vec.data.entry import Entry
from vox2vec.data.sources.source import Source
from vox2vec.data.splits import Split
from vox2vec.evaluation.fold import FOLD, Scored, finish_fold, tested
from vox2vec.evaluation.scores import scores_of_labels
from vox2vec.geometry import Box
from vox2vec.inference.embed import Embedder
from vox2vec.inference.runner import Precision
from vox2vec.matching.index import Index
from vox2vec.matching.neighbours import LabelledVoxels, labels_by_neighbours
from vox2vec.nn.fpn import FPN3d
from vox2vec.training.heads import measure_statistics
from vox2vec.volume import Volume

HEAD = "nearest"
"""What stands in the results where trained heads have their kind."""


@dataclass(frozen=True)
class Neighbours:
    """How labelled voxels vote; see `vote_slabs`.

    Attributes:
        fresh: the backbone has random weights, and first measures its batch norms' statistics on the labelled CTs.
    """

    neighbours: int = 20
    temperature: float = 0.05
    smoothing_mm: float = 3.0
    seed: int = 0
    fresh: bool = False
    precision: Precision = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.neighbours < 1 or self.temperature <= 0 or self.smoothing_mm < 0:
            raise ValueError(
                "neighbours must be at least 1, temperature above 0, smoothing_mm at least 0; got "
                f"{self.neighbours}, {self.temperature}, {self.smoothing_mm}"
            )


def run_nearest_fold(
    options: Neighbours,
    cache: Cache,
    entries: Mapping[str, Entry],
    source: Source,
    split: Split,
    names: Mapping[int, str],
    backbone: FPN3d,
    folder: Path,
) -> None:
    """Draw labelled voxels of the CTs to learn from, find the test CTs' structures, leave fold.json and the labels.

    A fold that is finished is not run again.
    """
    if (folder / FOLD).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    train, test = ([entries[id] for id in part if id in entries] for part in (split.train, split.test))
    embedder = embedder_of(
        cache,
        train,
        backbone,
        fresh=options.fresh,
        seed=options.seed,
        precision=options.precision,
        device=options.device,
    )
    parts = [
        LabelledVoxels.of(embedder(cache.open(entry)), truth_of(cache, entry), names, seed=options.seed + number)
        for number, entry in enumerate(train)
    ]
    examples = LabelledVoxels.joined(parts, seed=options.seed)

    def score(entry: Entry, truth: Volume) -> Scored:
        found = labels_by_neighbours(
            Index.of(embedder(cache.open(entry))),
            examples,
            neighbours=options.neighbours,
            temperature=options.temperature,
            smoothing_mm=options.smoothing_mm,
        )
        values, labels = scores_of_labels(found, cache, entry, truth, list(names))
        return {HEAD: values}, {HEAD: labels}

    scores, failed = tested(test, source, names, folder, score)
    finish_fold(folder, split, entries, failed, scores)


def embedder_of(
    cache: Cache,
    train: Sequence[Entry],
    backbone: FPN3d,
    *,
    fresh: bool,
    seed: int,
    precision: Precision,
    device: str,
) -> Embedder:
    """Of a copy of the backbone, whose batch norms are first measured on the CTs to learn from if it is fresh."""
    backbone = copy.deepcopy(backbone)
    if fresh:
        measure_statistics(backbone, LabelledBatches(cache, train, seed=seed))
        backbone.eval()
    return Embedder(backbone, device=device, precision=precision, progress=False)


def truth_of(cache: Cache, entry: Entry) -> Integer[np.ndarray, "x y z"]:
    """The labels of a cached CT, on its prepared grid."""
    return cache.open(entry).labels(Box((0, 0, 0), entry.shape))
