"""The epoch of a training of heads that validation CTs choose."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl

from vox2vec.data.cache import Cache
from vox2vec.data.entry import Entry
from vox2vec.metrics.intervals import mean_of_structures
from vox2vec.training.dice import dice_tables
from vox2vec.training.heads import evaluating
from vox2vec.training.segmentation import Segmentation


class KeepBest(pl.Callback):
    """Every `every_epochs` epochs the Dice of each head on whole validation CTs, and the weights of the best: of each
    head by itself, and of the backbone where it learns. Without validation CTs the last weights stay.

    Source: hard Dice at 0.5 and each head by itself, unlike the released code; docs/method.md section 5.
    """

    def __init__(self, cache: Cache, val: Sequence[Entry], *, every_epochs: int) -> None:
        self._cache, self._val, self._every_epochs = cache, list(val), every_epochs
        self.best: dict[str, float] = {}
        self._states: dict[str, dict[str, Any]] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if self._val and (last or (trainer.current_epoch + 1) % self._every_epochs == 0):
            scores = self.judge(module)  # type: ignore[arg-type]
            module.log_dict({f"val/{name}_dice": score for name, score in scores.items()})
            self.keep(module, scores)  # type: ignore[arg-type]

    def judge(self, module: Segmentation) -> dict[str, float]:
        """The mean Dice of each head on the validation CTs."""
        with evaluating(module):
            tables = dice_tables(self._cache, self._val, module.backbone, module.heads, module.numbers)
        return {name: mean_of_structures(table) for name, table in tables.items()}

    def keep(self, module: Segmentation, scores: Mapping[str, float]) -> None:
        """Remember the networks of the heads that are better than they were."""
        for name, score in scores.items():
            if score > self.best.get(name, -1.0):
                self.best[name] = score
                self._states[name] = {"head": copy.deepcopy(module.heads[name].state_dict())}
                if module.learns_backbone:
                    self._states[name]["backbone"] = copy.deepcopy(module.backbone.state_dict())

    def restore(self, module: Segmentation) -> None:
        """Give the networks their best weights; for after the training."""
        for name, state in self._states.items():
            module.heads[name].load_state_dict(state["head"])
            if "backbone" in state:
                module.backbone.load_state_dict(state["backbone"])

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "states": self._states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self._states = state_dict["best"], state_dict["states"]
