"""One fold of an evaluation without training: structures are carried from the labelled CTs to a test CT by fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vox2vec.data.cache import Cache
from vox2vec.data.entry import Entry
from vox2vec.data.sources.source import Source
from vox2vec.data.splits import Split
from vox2vec.evaluation.fold import FOLD, Scored, finish_fold, tested
from vox2vec.evaluation.nearest_fold import embedder_of, truth_of
from vox2vec.evaluation.scores import scores_of_labels
from vox2vec.inference.runner import Precision
from vox2vec.matching.examples import labels_by_examples
from vox2vec.matching.index import Index
from vox2vec.nn.fpn import FPN3d
from vox2vec.volume import Volume

HEAD = "atlas"
"""What stands in the results where trained heads have their kind."""


@dataclass(frozen=True)
class Carrying:
    """How voxels around a field's place vote; see `carried_votes`.

    Attributes:
        fresh: the backbone has random weights, and first measures its batch norms' statistics on the labelled CTs.
    """

    temperature: float = 0.05
    near_mm: float = 4.0
    smoothing_mm: float = 0.0
    seed: int = 0
    fresh: bool = False
    precision: Precision = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.temperature <= 0 or self.near_mm <= 0 or self.smoothing_mm < 0:
            raise ValueError(
                "temperature and near_mm must be above 0, smoothing_mm at least 0; got "
                f"{self.temperature}, {self.near_mm}, {self.smoothing_mm}"
            )


def run_atlas_fold(
    options: Carrying,
    cache: Cache,
    entries: Mapping[str, Entry],
    source: Source,
    split: Split,
    names: Mapping[int, str],
    backbone: FPN3d,
    folder: Path,
) -> None:
    """Carry the structures of all CTs to learn from to each test CT, leave fold.json and the labels.

    A fold that is finished is not run again. The features of the CTs to learn from are held at once.
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
    examples = [(Index.of(embedder(cache.open(entry)), average=True), truth_of(cache, entry)) for entry in train]

    def score(entry: Entry, truth: Volume) -> Scored:
        found = labels_by_examples(
            Index.of(embedder(cache.open(entry)), average=True),
            examples,
            names,
            temperature=options.temperature,
            near_mm=options.near_mm,
            smoothing_mm=options.smoothing_mm,
        )
        values, labels = scores_of_labels(found, cache, entry, truth, list(names))
        return {HEAD: values}, {HEAD: labels}

    scores, failed = tested(test, source, names, folder, score)
    finish_fold(folder, split, entries, failed, scores)
