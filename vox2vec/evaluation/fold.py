"""One fold of an evaluation: train on its CTs, choose by others, test on the rest."""

import copy
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger
from torch import nn

from vox2vec.data.cache import Cache
from vox2vec.data.datasets import LabelledBatches
from vox2vec.data.entry import Entry
from vox2vec.data.sources.source import Source
from vox2vec.data.splits import Split, patient_of
from vox2vec.evaluation.scores import Scores, scores_of
from vox2vec.nn.checkpoint import save_backbone
from vox2vec.nn.fingerprint import fingerprint
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.head_file import KINDS, SegmentationHead, save_head
from vox2vec.training.datamodule import CountBatches, EndlessData
from vox2vec.training.heads import evaluating, fresh_heads, measure_statistics
from vox2vec.training.keep_best import KeepBest
from vox2vec.training.machine import accelerator_of
from vox2vec.training.segmentation import Segmentation
from vox2vec.training.watching import KeepLast
from vox2vec.volume import Volume

_logger = logging.getLogger(__name__)
_LAST = "last.ckpt"
_THAWED_SHARE = 0.2  # of the learning rate, for a thawed backbone, as the released code meant
Trained = Literal["probing", "fine-tuning", "from_scratch"]
"""The setups that train."""
FOLD = "fold.json"
"""In the folder of a finished fold: what `run_fold` returns."""


@dataclass(frozen=True)
class Protocol:
    """How heads are trained; the defaults are the published ones.

    Attributes:
        heads: kinds, learning side by side where the backbone is frozen.
        frozen_epochs: None: the backbone never thaws.
        schedule: of the learning rates; "constant", or "cosine", which brings them to zero with the last step.
        fresh: the backbone has random weights, and first measures its batch norms' statistics on the CTs to learn from.
        val_every: epochs between two looks at the validation CTs.
        save_every: steps between two checkpoints to go on from.

    Source: docs/method.md section 4.
    """

    heads: Sequence[str] = ("linear", "nonlinear")
    epochs: int = 150
    batches_per_epoch: int = 300
    batch_size: int = 7
    learning_rate: float = 3e-4
    backbone_learning_rate: float | None = None
    frozen_epochs: int | None = None
    schedule: Literal["constant", "cosine"] = "constant"
    fresh: bool = False
    val_every: int = 10
    save_every: int = 300
    num_workers: int = 0
    accelerator: str = "auto"
    precision: Any = "32-true"
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("epochs", "batches_per_epoch", "batch_size", "val_every", "save_every")
        low = {name: getattr(self, name) for name in counts if getattr(self, name) < 1}
        if low:
            raise ValueError(f"epochs, batches and steps must be at least 1, got {low}")

    @classmethod
    def of(
        cls,
        setup: Trained,
        *,
        heads: Sequence[str] | None = None,
        frozen_epochs: int = 50,
        learning_rate: float = 3e-4,
        backbone_learning_rate: float | None = None,
        **options: Any,
    ) -> "Protocol":
        """A setup's, by default as published: both heads on a frozen backbone, else the linear one.

        Args:
            frozen_epochs: of fine-tuning.
            backbone_learning_rate: of a thawed backbone; by default a fifth of the heads' in fine-tuning, theirs from
                scratch.
            options: the other fields.
        """
        if setup == "fine-tuning" and backbone_learning_rate is None:
            backbone_learning_rate = _THAWED_SHARE * learning_rate
        return cls(
            heads=tuple(heads or (("linear", "nonlinear") if setup == "probing" else ("linear",))),
            frozen_epochs={"probing": None, "fine-tuning": frozen_epochs, "from_scratch": 0}[setup],
            learning_rate=learning_rate,
            backbone_learning_rate=backbone_learning_rate,
            **options,
        )


def run_fold(
    protocol: Protocol,
    cache: Cache,
    entries: Mapping[str, Entry],
    source: Source,
    split: Split,
    names: Mapping[int, str],
    backbone: FPN3d,
    folder: Path,
) -> dict[str, Any]:
    """Train, or go on from the folder's last.ckpt; test; leave the heads, and the backbone where it was changed.

    A fold that is finished is read, not run again.

    Args:
        entries: of the cache by id; ids of the split that it lacks are skipped, and said in the result.
        source: gives the labels on the CTs' own grids.
        names: number to structure, in the order of the classes.
        backbone: to start from; a copy learns.

    Returns:
        What results.json says of a fold.
    """
    if (folder / FOLD).exists():
        done: dict[str, Any] = json.loads((folder / FOLD).read_text(encoding="utf-8"))
        return done
    folder.mkdir(parents=True, exist_ok=True)
    train, val, test = ([entries[id] for id in part if id in entries] for part in (split.train, split.val, split.test))
    module = Segmentation(
        copy.deepcopy(backbone),
        fresh_heads(backbone, len(names), protocol.heads, seed=protocol.seed),
        list(names),
        frozen_epochs=protocol.frozen_epochs,
        learning_rate=protocol.learning_rate,
        backbone_learning_rate=protocol.backbone_learning_rate,
        fall_steps=protocol.epochs * protocol.batches_per_epoch if protocol.schedule == "cosine" else None,
    )
    batches = LabelledBatches(cache, train, seed=protocol.seed, batch_size=protocol.batch_size)
    if protocol.fresh:
        measure_statistics(module.backbone, batches)
    best = KeepBest(cache, val, every_epochs=protocol.val_every)
    trainer = _trainer(protocol, folder, best)
    last = folder / _LAST
    trainer.fit(
        module,
        datamodule=EndlessData(batches, num_workers=protocol.num_workers),
        ckpt_path=str(last) if last.exists() else None,
        weights_only=True,
    )
    trainer.save_checkpoint(last, weights_only=False)
    best.restore(module)
    module.to(trainer.strategy.root_device)  # Lightning has brought it back to the CPU

    def score(entry: Entry, truth: Volume) -> Scored:
        with evaluating(module):
            return scores_of(cache, entry, truth, module.backbone, dict(module.heads.items()), list(names))

    scores, failed = tested(test, source, names, folder, score)
    for kind, network in module.heads.items():
        _save(network, kind, module.backbone, names, folder)
    if protocol.fresh or module.learns_backbone:
        save_backbone(module.backbone, folder / "backbone.safetensors")
    result = finish_fold(folder, split, entries, failed, scores, val_dice=best.best)
    last.unlink()
    return result


def finish_fold(
    folder: Path,
    split: Split,
    entries: Mapping[str, Entry],
    failed: Mapping[str, str],
    scores: Mapping[str, Any],
    *,
    val_dice: Any = None,
) -> dict[str, Any]:
    """Write what results.json says of a fold, whole or not at all; with it the fold is finished.

    Args:
        entries: of the cache by id.
        failed: CTs that could not be tested, and why.
        scores: of the test CTs, by head, id and structure.
        val_dice: what the epoch was chosen by.
    """
    asked = {*split.train, *split.val, *split.test}
    result = {
        "split": {"train": list(split.train), "val": list(split.val), "test": list(split.test)},
        "skipped": {**dict.fromkeys(sorted(asked - set(entries)), "not in the cache"), **failed},
        "val_dice": val_dice,
        "scores": scores,
        "patients": {id: patient_of(id) for of_head in scores.values() for id in of_head},
    }
    partial = folder / f"{FOLD}.partial"
    partial.write_text(json.dumps(result, allow_nan=False), encoding="utf-8")
    partial.replace(folder / FOLD)
    return result


def _trainer(protocol: Protocol, folder: Path, best: KeepBest) -> pl.Trainer:
    return pl.Trainer(
        accelerator=accelerator_of(protocol.accelerator),
        devices=1,
        precision=protocol.precision,
        max_epochs=protocol.epochs,
        limit_train_batches=protocol.batches_per_epoch,
        use_distributed_sampler=False,
        log_every_n_steps=min(10, protocol.batches_per_epoch),
        num_sanity_val_steps=0,
        enable_model_summary=False,
        enable_checkpointing=False,  # `KeepLast` keeps what is needed
        logger=CSVLogger(folder, name="csv"),
        callbacks=[CountBatches(), best, KeepLast(folder / _LAST, every_steps=protocol.save_every)],
    )


Scored = tuple[dict[str, dict[int, Scores]], dict[str, Volume]]
"""By head, the scores of each structure, and the labels that were found."""


def tested(
    test: Sequence[Entry],
    source: Source,
    names: Mapping[int, str],
    folder: Path,
    score: Callable[[Entry, Volume], Scored],
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Scores by head, CT and structure, with the found labels in the folder; and the CTs that could not be tested.

    Args:
        score: given a CT and its true labels on its own grid.
    """
    scores: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    for entry in test:
        try:
            truth = source.labels(entry.id)
            if truth is None:
                raise ValueError("it has no labels")
            found, labels = score(entry, truth)
        except (ValueError, OSError) as error:
            _logger.warning("%s cannot be tested: %s", entry.id, error)
            failed[entry.id] = " ".join(str(error).split())
            continue
        for head, by_number in found.items():
            scores.setdefault(head, {})[entry.id] = {names[number]: values for number, values in by_number.items()}
            path = found_labels(folder, head, entry.id)
            path.parent.mkdir(parents=True, exist_ok=True)
            labels[head].save(path)
    return scores, failed


def found_labels(folder: Path, head: str, id: str) -> Path:
    """Where a fold's folder keeps the labels that a head found in a CT."""
    return folder / "labels" / head / f"{id.replace('/', '_')}.nii.gz"


def _save(network: nn.Module, kind: str, backbone: FPN3d, names: Mapping[int, str], folder: Path) -> None:
    if not isinstance(network, KINDS[kind]):
        raise TypeError(f"a {kind} head must be a {KINDS[kind].__name__}, got {type(network).__name__}")
    head = SegmentationHead(network, dict(names), fingerprint(backbone))
    save_head(
        head,
        folder / f"{kind}.safetensors",
        base_channels=backbone.base_channels,
        num_scales=backbone.num_scales,
    )
