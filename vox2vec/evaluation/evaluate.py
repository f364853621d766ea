"""What a backbone is worth on a labelled data set: every fold, its results, and what a person looks at."""

import logging
from collections.abc import Callable, Mapping
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch

from vox2vec import __version__
from vox2vec.data.cache import Cache
from vox2vec.data.datasets import labels_in
from vox2vec.data.entry import Entry
from vox2vec.data.sources.source import Source
from vox2vec.data.splits import Split, chosen_splits
from vox2vec.data.warm_up import warm_up
from vox2vec.evaluation.atlas_fold import Carrying, run_atlas_fold
from vox2vec.evaluation.fold import Protocol, run_fold
from vox2vec.evaluation.nearest_fold import Neighbours, run_nearest_fold
from vox2vec.evaluation.results import Results, summary
from vox2vec.evaluation.run_folder import draw, fold_folder, keep_settings, write_results
from vox2vec.nn.fingerprint import fingerprint
from vox2vec.nn.fpn import FPN3d
from vox2vec.training.keep_config import keep_config

_logger = logging.getLogger(__name__)
Setup = Literal["probing", "fine-tuning", "from_scratch", "knn", "atlas"]
Say = Callable[[str], Any]
_MEASURED_WITH = ("torch", "numpy", "monai", "pytorch-lightning")
_MACHINE = ("num_workers", "accelerator", "device", "save_every")  # what may change when a run goes on


def evaluate(
    source: Source,
    backbone: FPN3d,
    *,
    cache: Cache | str | PathLike[str],
    log_dir: str | PathLike[str],
    setup: Setup = "probing",
    protocol: Protocol | Neighbours | Carrying | None = None,
    weights: str = "given",
    split: str = "all",
    splits: Mapping[str, Split] | Path | None = None,
    num_val: int = 1,
    train_size: int | None = None,
    num_workers: int = 0,
    config: Path | None = None,
    say: Say = _logger.info,
    warn: Say = _logger.warning,
) -> Results:
    """Segment a labelled data set with a backbone, fold by fold; finished folds are read, a killed one goes on.

    The log folder gets results.json, summary.csv, figures, and for each fold the heads, the labels that they found and
    the backbone where it learned. CTs that cannot be read are left out and no fold shifts.

    Args:
        source: labelled CTs.
        backbone: to start from; it says how CTs are prepared. A copy learns.
        cache: of the backbone's spacing and body, or its folder; the CTs that it lacks are added.
        setup: probing (frozen), fine-tuning (thaws), from_scratch (learns at once), or, without training, knn: each
            voxel asks the most similar voxels of the labelled CTs; atlas: their structures are carried by fields.
        protocol: `Protocol.of(setup, ...)`, `Neighbours(...)` for knn, `Carrying(...)` for atlas; by default as
            published.
        weights: where the backbone comes from, told in the results.
        split, splits, num_val, train_size: as of `chosen_splits`; by default all five published folds.
        num_workers: that fill the cache.
        config: the file that the settings were read from, kept beside the results.
        say: is given a line at the start of a fold, and one for each head at its end.
        warn: is given a line for each CT that is left out.

    Raises:
        ValueError: a protocol of another setup, a cache of another recipe, a split that cannot be, or a log folder of a
            run with other settings.

    Source: docs/method.md section 4.
    """
    protocol = _checked(setup, protocol)
    cache = _cache_of(cache, backbone)
    chosen = chosen_splits(
        source.ids, split=split, splits=splits, num_val=num_val, train_size=train_size, seed=protocol.seed
    )
    log_dir = Path(log_dir)
    entries = _cached(cache, source, num_workers, warn)
    names = dict(sorted((source.label_names or labels_in(cache, list(entries.values()))).items()))
    settings = {
        "setup": setup,
        "data": source.name,
        "structures": {str(number): name for number, name in names.items()},
        "weights": weights,
        "train_size": train_size,
        "num_val_scans": num_val,
        "splits": _told(splits),
        **_settings(backbone, cache, protocol),
    }
    keep_settings(log_dir, settings)
    keep_config(config, log_dir)
    results = Results(settings, settings["structures"], {})
    for fold, each in chosen.items():
        say(
            f"{source.name}, fold {fold}: {len(each.train)} CTs to learn from, {len(each.val)} to choose by, "
            f"{len(each.test)} to test on"
        )
        run_one = (cache, entries, source, each, names, backbone, fold_folder(log_dir, fold))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(protocol.seed)
            if isinstance(protocol, Neighbours):
                run_nearest_fold(protocol, *run_one)
            elif isinstance(protocol, Carrying):
                run_atlas_fold(protocol, *run_one)
            else:
                run_fold(protocol, *run_one)
        results = write_results(log_dir, settings, names)
        for line in _lines(results):
            say(line)
    draw(results, source, log_dir)
    return results


def evaluate_all(
    sources: Mapping[str, Source],
    backbone: FPN3d,
    *,
    log_dir: str | PathLike[str],
    warn: Say = _logger.warning,
    **options: Any,
) -> dict[str, Results]:
    """`evaluate` each data set, its results in the log folder's folder of its name ("" for the log folder itself).

    One of several that cannot be evaluated is left out, and `warn` is given a line that says why.
    """
    finished = {}
    for name, source in sources.items():
        try:
            finished[name] = evaluate(source, backbone, log_dir=Path(log_dir) / name, warn=warn, **options)
        except ValueError as error:
            if len(sources) == 1:
                raise
            warn(f"left out: {source.name}: {error}")
    return finished


def _checked(setup: Setup, protocol: Protocol | Neighbours | Carrying | None) -> Protocol | Neighbours | Carrying:
    if protocol is None:
        if setup == "knn":
            return Neighbours()
        return Carrying() if setup == "atlas" else Protocol.of(setup)
    kinds: dict[str, type] = {"knn": Neighbours, "atlas": Carrying}
    if not isinstance(protocol, kinds.get(setup, Protocol)):
        raise ValueError(
            "the setup knn goes with Neighbours(...), atlas with Carrying(...), the others with "
            f"Protocol.of(setup, ...); got {setup!r} with {type(protocol).__name__}"
        )
    return protocol


def _cache_of(cache: Cache | str | PathLike[str], backbone: FPN3d) -> Cache:
    if not isinstance(cache, Cache):
        return Cache(Path(cache), backbone.recipe)
    wanted, has = ((r.spacing_mm, r.body_hu) for r in (backbone.recipe, cache.recipe))
    if wanted != has:
        raise ValueError(
            f"the cache must be of the backbone's spacing and body threshold {wanted}, it is of {has}; "
            "take Cache(folder, backbone.recipe)"
        )
    return cache


def _cached(cache: Cache, source: Source, num_workers: int, warn: Say) -> dict[str, Entry]:
    """The source's CTs in the cache, by id; those that were not there are added."""
    for failure in warm_up(cache, [source], labels=True, num_workers=num_workers).failed:
        warn(f"left out: {failure.path}: {failure.reason}")
    keys = {cache.key(source, id, labels=True) for id in source.ids}
    return {entry.id: entry for entry in cache.entries() if entry.key in keys}


def _settings(backbone: FPN3d, cache: Cache, protocol: Protocol | Neighbours | Carrying) -> dict[str, Any]:
    """What makes one run comparable with another, and what must not change when it goes on."""
    return {
        "fingerprint": fingerprint(backbone),
        "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
        "recipe": backbone.recipe.as_dict(),
        "table": cache.table,
        "protocol": {name: value for name, value in vars(protocol).items() if name not in _MACHINE},
        "versions": {"vox2vec": __version__, **{name: version(name) for name in _MEASURED_WITH}},
    }


def _told(splits: Mapping[str, Split] | Path | None) -> Any:
    if splits is None:
        return "published"
    return str(splits) if isinstance(splits, Path) else {name: vars(split) for name, split in splits.items()}


def _lines(results: Results) -> list[str]:
    """The Dice of each head so far."""
    patients = {head: len({scan.patient for scan in results.scans(head)}) for head in results.heads}
    return [
        f"  {row.head}: Dice {row.mean:.3f}, 95 % interval {row.low:.3f} to {row.high:.3f}, "
        f"{patients[row.head]} patients"
        for row in summary(results)
        if row.structure == "mean" and row.metric == "dice"
    ]
