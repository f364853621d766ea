"""What a run logs besides its loss, and what it saves when it is stopped."""

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import SIGTERMException


class LoaderWait(pl.Callback):
    """Logs the share of a step spent waiting for the loader, and voxel pairs a second."""

    def __init__(self) -> None:
        self._started = self._ended = time.perf_counter()

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        self._started = time.perf_counter()
        self._wait_s = self._started - self._ended

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        before, self._ended = self._ended, time.perf_counter()
        step_s = self._ended - before
        voxels = sum(pairs.shape[1] for pairs in batch.voxels)
        module.log("speed/loader_wait_percent", 100 * self._wait_s / step_s)
        module.log("speed/voxels_per_s", voxels / step_s)


class KeepLast(pl.Callback):
    """Saves the whole state every `every_steps` steps, and when a person or the scheduler (SIGTERM) stops the run; one
    that fails keeps its last good state. To stand last among the callbacks, whose states it saves."""

    def __init__(self, path: Path, *, every_steps: int) -> None:
        self._path, self._every_steps = path, every_steps

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self._every_steps == 0:
            trainer.save_checkpoint(self._path, weights_only=False)

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, (KeyboardInterrupt, SIGTERMException)):
            trainer.save_checkpoint(self._path, weights_only=False)
