"""The cache as a stream of batches for a Lightning trainer."""

from typing import Any, Generic, TypeVar

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from vox2vec.data.datasets import BatchOrder, LabelledBatches, PairBatches, one_thread

_Batches = TypeVar("_Batches", PairBatches, LabelledBatches)


class EndlessData(pl.LightningDataModule, Generic[_Batches]):
    """An endless stream of batches for one rank; its state in a checkpoint is the number of batches used.

    Attributes:
        batches: the stream, by number: `PairBatches` or `LabelledBatches`.
    """

    def __init__(self, batches: _Batches, *, num_workers: int = 0) -> None:
        super().__init__()
        self.batches: _Batches = batches
        self._num_workers = num_workers
        self._state: dict[str, int] | None = None
        self._order: BatchOrder | None = None

    def train_dataloader(self) -> DataLoader[Any]:
        """Endless; epochs are the trainer's `limit_train_batches`."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        self._order = BatchOrder(rank=rank, world_size=world_size)
        if self._state is not None:
            self._order.load_state_dict(self._state)
        pinned = bool(self.trainer and self.trainer.strategy.root_device.type == "cuda")
        return stream(self.batches, self._order, num_workers=self._num_workers, pin_memory=pinned)

    def advance(self) -> None:
        """One more batch was trained on."""
        if self._order is not None:
            self._order.advance()

    def state_dict(self) -> dict[str, int]:
        return self._order.state_dict() if self._order is not None else {}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._state = state_dict or None
        if self._order is not None and state_dict:
            self._order.load_state_dict(state_dict)


def stream(
    batches: PairBatches | LabelledBatches, order: BatchOrder, *, num_workers: int, pin_memory: bool = False
) -> DataLoader[Any]:
    """Batches in an order, read ahead by processes of their own; by this one with `num_workers` 0."""
    return DataLoader(
        batches,
        batch_size=None,
        sampler=order,
        num_workers=num_workers,
        worker_init_fn=one_thread,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
        multiprocessing_context="spawn" if num_workers else None,
    )


class CountBatches(pl.Callback):
    """Tells `EndlessData` which batches are done."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        trainer.datamodule.advance()  # type: ignore[attr-defined]
