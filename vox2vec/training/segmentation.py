"""Heads on a backbone that is frozen, thaws later, or learns with them: probing, fine-tuning and from scratch."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from vox2vec.data.datasets import LabelledBatch
from vox2vec.nn.fpn import FPN3d
from vox2vec.training.heads import head_losses


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
