"""What a training runs on: devices, precision, processes; and what one process does before the others go on."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import ParallelStrategy

from vox2vec.distributed import is_distributed
from vox2vec.nn.device import computes_in_bfloat16, pick_device

_PATIENCE = timedelta(days=365)  # a cache may take days to warm


@dataclass(frozen=True)
class Machine:
    """How the training is computed; nothing of it changes what is learned, but for rounding and batch statistics.

    Attributes:
        accelerator: "auto", "cpu", "gpu" or "mps".
        precision: "32", "bf16" or "16"; None: bf16 on a GPU that computes in it, else 32.
        devices: on each node.
        sync_batchnorm: statistics over all ranks, rather than each its own.
        channels_last: channels of a voxel beside each other in memory.
        compile: the backbone, which costs minutes at the start.
        num_workers: processes that read; 0 reads in the one that trains.
    """

    accelerator: str = "auto"
    precision: Literal["32", "bf16", "16"] | None = None
    devices: int = 1
    num_nodes: int = 1
    sync_batchnorm: bool = False
    channels_last: bool = True
    compile: bool = False
    num_workers: int = 2


def accelerator_of(accelerator: str) -> str:
    """As Lightning names it; of "auto" what has all that is computed with."""
    return pick_device("auto").type if accelerator == "auto" else accelerator


def precision_of(precision: str | None, accelerator: str) -> Any:
    """As Lightning names it; by default bfloat16 where a GPU computes in it, and does not emulate it."""
    if precision is not None:
        return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[precision]
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and computes_in_bfloat16(torch.device("cuda")) else "32-true"


def by_first_rank(trainer: pl.Trainer, work: Callable[[], None]) -> None:
    """Do what all ranks need once: by rank 0, while ranks that were started with it (torchrun, SLURM) wait for it.

    Ranks that Lightning starts, which it does when fitting begins, come after rank 0's work and find it done.
    """
    strategy = trainer.strategy
    environment = strategy.cluster_environment if isinstance(strategy, ParallelStrategy) else None
    if environment is None or isinstance(environment, LightningEnvironment):
        work()
        return
    strategy.setup_environment()  # the group of ranks, which fitting finds and keeps
    waiting = dist.new_group(backend="gloo", timeout=_PATIENCE) if is_distributed() else None
    try:
        if trainer.is_global_zero:
            work()
    finally:
        if waiting is not None:
            dist.monitored_barrier(waiting, timeout=_PATIENCE)
