"""A look at the vectors while they change: points found again in a bent, noisy copy of a scan, without labels."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl

from vox2vec.geometry import Box
from vox2vec.inference.embedding import Embedding
from vox2vec.matching.deformation import BentPair, bent_pair
from vox2vec.matching.recovery import matching_errors, recall
from vox2vec.nn.fpn import FPN3d
from vox2vec.volume import Volume

_OVERLAP = 0.25  # of the windows: a look, not a result


class MatchingMonitor(pl.Callback):
    """Logs the median error in mm ("matching/median_mm") and the share found within 5 mm ("matching/recall_5mm") on
    one CT, before the first step and every `every_epochs` epochs. The backbone runs in eval mode, as a copy.

    Args:
        volume: HU, on the grid of the backbone's recipe; the middle of at most 4 patches along each axis is taken.
        draw: called with the scan, its embedding and the step: for pictures.
        seed: of the deformation and the points, the same each time.
    """

    def __init__(
        self,
        volume: Volume,
        patch_size: tuple[int, int, int],
        *,
        every_epochs: int = 10,
        draw: Callable[[Volume, Embedding, int], None] | None = None,
        seed: int = 0,
    ) -> None:
        self._volume = _middle(volume, tuple(4 * n for n in patch_size))
        self._pair: BentPair | None = None  # by the rank that looks, when it first does
        self._every_epochs, self._draw, self._seed = every_epochs, draw, seed

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.global_step == 0:
            self._look(trainer, module)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if (trainer.current_epoch + 1) % self._every_epochs == 0:
            self._look(trainer, module)

    def _look(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        backbone: FPN3d = module.backbone  # type: ignore[assignment]
        self._pair = self._pair or bent_pair(self._volume, self._seed)
        errors, embedding = matching_errors(
            self._pair, backbone, seed=self._seed, overlap=_OVERLAP, device=module.device
        )
        told = {"matching/median_mm": float(np.median(errors)), "matching/recall_5mm": recall(errors)}
        for logger in trainer.loggers:
            logger.log_metrics(told, step=trainer.global_step)
        if self._draw is not None:
            self._draw(self._volume, embedding, trainer.global_step)


def _middle(volume: Volume, most: Any) -> Volume:
    start = [max(0, (n - size) // 2) for n, size in zip(volume.shape, most, strict=True)]
    x, y, z = start
    u, v, w = (min(n, s + size) for n, s, size in zip(volume.shape, start, most, strict=True))
    return volume.crop(Box((x, y, z), (u, v, w)))
