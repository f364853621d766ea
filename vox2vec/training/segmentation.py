"""Heads on a backbone that is frozen, thaws later, or learns with them: probing, fine-tuning and from scratch."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vox2vec.data.cache import Cache
from vox2vec.data.datasets import LabelledBatch, LabelledBatches
from vox2vec.data.entry import Entry
from vox2vec.losses.segmentation import bce_dice
from vox2vec.metrics.intervals import mean_of_structures
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.head_file import KINDS
from vox2vec.preprocessing.intensity import scale_hu
from vox2vec.training.dice import dice_tables


class Segmentation(pl.LightningModule):
    """One training for the three setups; several heads learn side by side, each from its own loss.

    While the backbone is frozen it runs in eval mode and without a graph: neither its weights nor its statistics
    change. Thawed, it learns at its own rate while the heads keep theirs.

    Args:
        heads: by name, such as `fresh_heads` gives them.
        numbers: the label of each class, in the order of the heads' outputs.
        frozen_epochs: before the backbone thaws; None: never (probing), 0: at once (from scratch).
        learning_rate: of the heads; Adam.
        backbone_learning_rate: of the thawed backbone; by default the heads'.
        fall_steps: steps over which all rates fall to zero by a cosine; None: they stay, as published. After a short
            training the last steps of constant rates leave the Dice to chance.

    Source: docs/method.md section 4; Goncharov et al., arXiv 2307.14725, section 4.
    """

    def __init__(
        self,
        backbone: FPN3d,
        heads: Mapping[str, nn.Module],
        numbers: Sequence[int],
        *,
        frozen_epochs: int | None = None,
        learning_rate: float = 3e-4,
        backbone_learning_rate: float | None = None,
        fall_steps: int | None = None,
    ) -> None:
        super().__init__()
        if frozen_epochs is not None and len(heads) > 1:
            raise ValueError(f"a backbone that learns has one head to learn with, got {sorted(heads)}")
        self.backbone, self.heads, self.numbers = backbone, nn.ModuleDict(heads), list(numbers)
        self._frozen_epochs, self._learning_rate, self._fall_steps = frozen_epochs, learning_rate, fall_steps
        self._backbone_learning_rate = learning_rate if backbone_learning_rate is None else backbone_learning_rate
        self.to(memory_format=torch.channels_last_3d)  # 1.5 times the speed on a CPU
        self.train()

    @property
    def learns_backbone(self) -> bool:
        """Whether the backbone ever thaws."""
        return self._frozen_epochs is not None

    @property
    def is_frozen(self) -> bool:
        """Whether the backbone is, in this epoch."""
        return self._frozen_epochs is None or (
            self._frozen_epochs > 0 and (self._trainer is None or self.current_epoch < self._frozen_epochs)
        )

    def train(self, mode: bool = True) -> "Segmentation":
        super().train(mode)
        self.backbone.train(mode and not self.is_frozen)
        return self

    def on_train_epoch_start(self) -> None:
        self.train()

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor:
        losses = head_losses(self.backbone, self.heads, self.numbers, batch, frozen=self.is_frozen)
        for name, loss in losses.items():
            self.log(f"train/{name}_loss", loss)
        return sum(losses.values(), torch.zeros((), device=self.device))

    def configure_optimizers(self) -> Any:
        """Adam; a frozen backbone has no gradients, so Adam passes it over until it thaws."""
        groups: list[dict[str, Any]] = [{"params": list(self.heads.parameters()), "lr": self._learning_rate}]
        if self._frozen_epochs is not None:
            groups.append({"params": list(self.backbone.parameters()), "lr": self._backbone_learning_rate})
        optimizer = torch.optim.Adam(groups)
        if self._fall_steps is None:
            return optimizer
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self._fall_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": fall, "interval": "step"}}


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


def measure_statistics(backbone: FPN3d, batches: LabelledBatches, *, count: int = 16) -> None:
    """Give a fresh network the batch norms' statistics of `count` batches of patches; labels play no part.

    A fresh network's own are placeholders (mean 0, variance 1), with which its features hardly vary and no head learns
    from them: it would be no fair thing to compare with.
    """
    norms = [norm for norm in backbone.modules() if isinstance(norm, nn.BatchNorm3d)]
    before, was_training = [norm.momentum for norm in norms], backbone.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    backbone.train()
    with torch.no_grad():
        for i in range(count):
            backbone(_network_input(batches[i], backbone))
    backbone.train(was_training)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum


def fresh_heads(backbone: FPN3d, num_classes: int, kinds: Sequence[str], *, seed: int) -> dict[str, nn.Module]:
    """Untrained heads by kind, "linear" or "nonlinear", the same for a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {kind: KINDS[kind](backbone.base_channels, backbone.num_scales, num_classes) for kind in kinds}


def head_losses(
    backbone: FPN3d, heads: nn.ModuleDict, numbers: Sequence[int], batch: LabelledBatch, *, frozen: bool
) -> dict[str, Tensor]:
    """BCE and Dice of each head on one batch; through a frozen backbone goes neither gradient nor statistics."""
    device = next(heads.parameters()).device
    with evaluating(backbone) if frozen else nullcontext(), torch.set_grad_enabled(not frozen):
        pyramid = backbone(_network_input(batch, backbone))
    targets, body = one_hot(batch.labels.to(device), numbers), batch.body.to(device)
    return {name: bce_dice(head(pyramid).float(), targets, body) for name, head in heads.items()}


def _network_input(batch: LabelledBatch, backbone: FPN3d) -> Float[Tensor, "n 1 x y z"]:
    """A batch's patches in [0, 1], on the backbone's device."""
    patches = np.stack([scale_hu(patch[0].cpu().numpy(), backbone.recipe.window_hu) for patch in batch.patches_hu])
    return torch.from_numpy(patches)[:, None].to(next(backbone.parameters()).device)


def one_hot(labels: Int64[Tensor, "n x y z"], numbers: Sequence[int]) -> Float[Tensor, "n c x y z"]:
    """1 where the label is the class's number."""
    return torch.stack([labels == number for number in numbers], dim=1).float()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode for a while: no statistics are taken."""
    was_training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in was_training.items():
            part.training = mode
