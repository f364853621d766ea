"""Heads trained beside a pre-training on labelled CTs, to see what the frozen features are worth while they change."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import nn

from vox2vec.data.cache import Cache
from vox2vec.data.datasets import BatchOrder, LabelledBatch, LabelledBatches
from vox2vec.data.entry import Entry
from vox2vec.metrics.intervals import mean_of_structures
from vox2vec.nn.fpn import FPN3d
from vox2vec.training.datamodule import stream
from vox2vec.training.dice import dice_tables
from vox2vec.training.heads import evaluating, fresh_heads, head_losses

_logger = logging.getLogger(__name__)


class OnlineProbe(pl.Callback):
    """A linear and a non-linear head on the features as they are; the backbone neither sees a gradient nor the patches'
    statistics: it runs in eval mode, without a graph.

    After each training step both heads take one step on a batch of labelled patches; every `every_epochs` epochs the
    Dice of each structure, over whole validation CTs at 0.5 inside the body, is logged as "probe_linear/NAME" and
    "probe_nonlinear/NAME". Structures absent from all validation CTs have no value. Of several ranks the first does all
    of it: the backbone is the same on each.

    Args:
        train, val: entries of a cache with labels; no patient in both.
        label_names: number to structure; the heads' classes, in order of number.
        seed: of the heads' start and the patches.
        num_workers: processes that read patches ahead of the heads; 0 reads in this one.

    Raises:
        ValueError: no structures, or a CT in both lists.

    Source: docs/method.md sections 3 and 4.
    """

    def __init__(
        self,
        cache: Cache,
        train: Sequence[Entry],
        val: Sequence[Entry],
        label_names: Mapping[int, str],
        *,
        every_epochs: int = 10,
        batch_size: int = 7,
        learning_rate: float = 3e-4,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        both = {entry.key for entry in train} & {entry.key for entry in val}
        if both:
            raise ValueError(f"a probe is judged on CTs it was not trained on, {len(both)} are in both lists")
        if not label_names:
            raise ValueError("a probe needs structures to find, got no label names; give the labels names")
        self._cache, self.val, self._every_epochs = cache, val, every_epochs
        self._names = dict(sorted(label_names.items()))
        self._batches = LabelledBatches(cache, train, seed=seed, batch_size=batch_size)
        self._learning_rate, self._seed, self._step = learning_rate, seed, 0
        self.heads = nn.ModuleDict()
        self._optimizer: torch.optim.Optimizer | None = None
        self._waiting: dict[str, Any] | None = None
        self._num_workers = num_workers
        self._stream: Iterator[LabelledBatch] | None = None

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.start(module.backbone)  # type: ignore[arg-type]

    def start(self, backbone: FPN3d) -> None:
        """Fresh heads, on the backbone's device; by itself for features that no longer change."""
        self.heads = nn.ModuleDict(fresh_heads(backbone, len(self._names), ("linear", "nonlinear"), seed=self._seed))
        self.heads.to(next(backbone.parameters()).device)
        self._optimizer = torch.optim.Adam(self.heads.parameters(), lr=self._learning_rate)
        if self._waiting is not None:
            self._restore(self._waiting)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_global_zero:
            return
        for name, loss in self.train_heads(module.backbone).items():  # type: ignore[arg-type]
            module.log(f"probe_{name}/loss", loss, rank_zero_only=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.is_global_zero and (trainer.current_epoch + 1) % self._every_epochs == 0:
            for name, scores in self.judge(module.backbone).items():  # type: ignore[arg-type]
                told = {f"probe_{name}/{structure}": dice for structure, dice in scores.items()}
                module.log_dict(told, rank_zero_only=True)

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        self._stream = None  # and with it its workers

    def train_heads(self, backbone: FPN3d) -> dict[str, float]:
        """One step of both heads on one batch; their losses."""
        if self._optimizer is None:
            raise RuntimeError("the heads are made by `start`, or when fitting starts")
        batch = self._next_batch()
        self.heads.train()
        losses = head_losses(backbone, self.heads, list(self._names), batch, frozen=True)
        self._optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        self._optimizer.step()
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def judge(self, backbone: FPN3d) -> dict[str, dict[str, float]]:
        """For each head the Dice of each structure, and their mean as "dice", over the validation CTs."""
        self.heads.eval()
        with evaluating(backbone):
            tables = dice_tables(self._cache, self.val, backbone, self.heads, list(self._names))
        return {name: self._means(table) for name, table in tables.items()}

    def _next_batch(self) -> LabelledBatch:
        if self._stream is None:
            order = BatchOrder()
            order.load_state_dict({"next_batch": self._step})
            self._stream = iter(stream(self._batches, order, num_workers=self._num_workers))
        self._step += 1
        return next(self._stream)

    def state_dict(self) -> dict[str, Any]:
        if self._optimizer is None:
            return {}
        return {"heads": self.heads.state_dict(), "optimizer": self._optimizer.state_dict(), "step": self._step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._waiting = state_dict or None
        if self._optimizer is not None and state_dict:
            self._restore(state_dict)

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.heads.load_state_dict(state["heads"])
        if self._optimizer is not None:
            self._optimizer.load_state_dict(state["optimizer"])
        self._step, self._stream = int(state["step"]), None

    def _means(self, table: Float[np.ndarray, "s c"]) -> dict[str, float]:
        present = ~np.isnan(table)
        absent = int((~present).sum())
        if absent:
            _logger.info("left %d absent structures of %d validation CTs out of the Dice", absent, len(table))
        means = {name: mean_of_structures(table[:, [i]]) for i, name in enumerate(self._names.values())}
        told = {name: mean for name, mean in means.items() if np.isfinite(mean)}
        return told | ({"dice": mean_of_structures(table)} if told else {})
