"""One pre-training from a cache to a file of weights: what `vox2vec pretrain` does after it has read its arguments."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from vox2vec.data.cache import Cache
from vox2vec.data.datasets import PairBatches
from vox2vec.data.entry import Entry
from vox2vec.data.sources.source import Source
from vox2vec.data.warm_up import warm_up
from vox2vec.distributed import gathered, is_distributed, world_size
from vox2vec.nn.checkpoint import save_backbone
from vox2vec.nn.fpn import FPN3d
from vox2vec.training.datamodule import CountBatches, EndlessData
from vox2vec.training.keep_config import keep_config
from vox2vec.training.learned_from import Chosen, chosen
from vox2vec.training.machine import Machine, accelerator_of, by_first_rank, precision_of
from vox2vec.training.monitor_pictures import monitor_of
from vox2vec.training.online_probe import OnlineProbe
from vox2vec.training.plan import plan
from vox2vec.training.pretraining import Pretraining, SpatialRanges
from vox2vec.training.settings import Method, Network, Schedule, Watch
from vox2vec.training.watching import KeepLast, LoaderWait

_logger = logging.getLogger(__name__)
_LAST = "last.ckpt"


def pretrain(
    cache: Cache,
    log_dir: Path,
    *,
    sources: Sequence[Source] = (),
    network: Network = Network(),  # noqa: B008
    method: Method = Method(),  # noqa: B008
    schedule: Schedule = Schedule(),  # noqa: B008
    watch: Watch = Watch(),  # noqa: B008
    machine: Machine = Machine(),  # noqa: B008
    limit_scans: int | None = None,
    seed: int = 0,
    resume: bool = False,
    config: Path | None = None,
    say: Callable[[str], None] = _logger.info,
) -> Path:
    """Learn voxel vectors from the CTs of a cache; the file of the backbone, in the log folder.

    The folder gets last.ckpt too, to go on from, the logs (CSV and TensorBoard), and pictures. Every process of a run
    over several calls this.

    Args:
        cache: its recipe is the backbone's. All of its CTs are learned from, but for the probe's.
        sources: stored in the cache first, where they are missing.
        limit_scans: the first so many CTs alone, for a dry run.
        seed: of weights, patches and augmentations.
        resume: go on from the folder's last.ckpt. A run that SLURM started again does so unasked.
        config: a file to keep in the folder as config.yaml.
        say: is told what will be done, and what was, line by line.

    Raises:
        ValueError: no CT to learn from; an earlier run in the folder, or none to resume; impossible settings.
        OSError: the cache's disk is full, or a folder cannot be written.
        FloatingPointError: the loss is no number; the batch's CTs are in the folder's failed_batch.json.
    """
    if limit_scans is not None and limit_scans < 1:
        raise ValueError(f"--limit_scans must be at least 1, got {limit_scans}")
    log_dir = Path(log_dir)
    last = _checkpoint_to_resume(log_dir, resume=resume)
    warnings.filterwarnings("ignore", message=r".*LeafSpec\)` is deprecated")  # Lightning's own, of torch 2.13
    board = TensorBoardLogger(log_dir, name=None, version="")
    trainer = _trainer(log_dir, board, schedule, machine)
    by_first_rank(trainer, lambda: _warm(cache, sources, watch.probe, machine.num_workers, limit_scans, say))
    found = chosen(cache, watch.probe, limit=limit_scans, spare_one=bool(watch.monitor_every))
    log_dir.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    module = _module(cache, log_dir, network, method, schedule, machine, seed)
    data = EndlessData(_batches(cache, found.learned, method, seed), num_workers=machine.num_workers)
    watchers: list[pl.Callback] = []
    if found.probe is not None:
        watchers.append(_probe(cache, found, watch, machine, seed))
    if watch.monitor_every:
        watchers.append(monitor_of(cache, found.watched, log_dir, board, every_epochs=watch.monitor_every, seed=seed))
    trainer.callbacks[-1:-1] = watchers  # type: ignore[attr-defined]  # `KeepLast` stays last
    if trainer.is_global_zero or is_distributed():  # the loss that is measured spans the ranks that are there
        planned = plan(module, data.batches[0], trainer)
    if trainer.is_global_zero:
        keep_config(config, log_dir)
        say(f"{found.told}; {planned}")
    if machine.compile:
        module.backbone.compile()
    trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True)
    trainer.save_checkpoint(log_dir / _LAST, weights_only=False)
    _check_that_ranks_agree(module.backbone)
    path = log_dir / "backbone.safetensors"
    if trainer.is_global_zero:
        told = {"trained_by": " ".join(sys.argv), "steps": str(trainer.global_step)}
        save_backbone(module.backbone, path, metadata=told)
        say(f"{path}: the backbone after {trainer.global_step} steps, for vox2vec embed --weights")
    return path


def _checkpoint_to_resume(log_dir: Path, *, resume: bool) -> str | None:
    path = log_dir / _LAST
    requeued = int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0
    if not path.exists():
        if resume:
            raise ValueError(f"--resume goes on from {path}, which is not there; leave --resume out to start anew")
        return None
    if resume or requeued:
        try:
            torch.load(path, weights_only=True, mmap=True)
        except (UnpicklingError, RuntimeError) as error:
            raise ValueError(f"{path} must hold a training's state and no code, it is broken or foreign") from error
        return str(path)
    raise ValueError(f"{log_dir} holds an earlier run: go on with --resume, or take another --log_dir")


def _trainer(log_dir: Path, board: TensorBoardLogger, schedule: Schedule, machine: Machine) -> pl.Trainer:
    return pl.Trainer(
        accelerator=accelerator_of(machine.accelerator),
        devices=machine.devices,
        num_nodes=machine.num_nodes,
        precision=precision_of(machine.precision, machine.accelerator),
        max_steps=schedule.max_steps,
        limit_train_batches=schedule.num_batches_per_epoch,
        gradient_clip_val=1.0,
        sync_batchnorm=machine.sync_batchnorm,
        use_distributed_sampler=False,  # `BatchOrder` shares the stream out
        log_every_n_steps=min(10, schedule.num_batches_per_epoch),
        num_sanity_val_steps=0,
        enable_model_summary=False,  # `plan` says it
        enable_checkpointing=False,  # `KeepLast` keeps what is needed
        logger=[board, CSVLogger(log_dir, name="csv")],
        callbacks=[
            CountBatches(),
            LoaderWait(),
            LearningRateMonitor("step"),
            KeepLast(log_dir / _LAST, every_steps=schedule.save_every),
        ],
    )


def _warm(
    cache: Cache,
    sources: Sequence[Source],
    probe: Source | None,
    num_workers: int,
    limit: int | None,
    say: Callable[[str], None],
) -> None:
    """Store what is missing: the data sets, and the probe's CTs with their labels."""
    if sources:
        report = warm_up(cache, sources, num_workers=num_workers, limit=limit)
        report.write(cache.folder / "report.csv")
        say(f"cache: {report.stored} CTs stored, {report.present} were there, {len(report.failed)} failed")
    if probe is not None:
        warm_up(cache, [probe], labels=True, num_workers=num_workers)


def _module(
    cache: Cache,
    log_dir: Path,
    network: Network,
    method: Method,
    schedule: Schedule,
    machine: Machine,
    seed: int,
) -> Pretraining:
    backbone = FPN3d(base_channels=network.base_channels, num_scales=network.num_scales)
    backbone.recipe = cache.recipe
    return Pretraining(
        backbone,
        objective=method.objective,
        temperature=method.temperature,
        expander_width=method.expander_width,
        learning_rate=schedule.lr,
        optimizer=schedule.optimizer,
        warmup_steps=schedule.warmup_steps,
        max_steps=schedule.max_steps,
        channels_last=machine.channels_last,
        micro_batch_size=method.micro_batch_size,
        spatial=SpatialRanges(method.flip, method.rotation, method.scale),
        seed=seed,
        failure_path=log_dir / "failed_batch.json",
    )


def _batches(cache: Cache, entries: Sequence[Entry], method: Method, seed: int) -> PairBatches:
    return PairBatches(
        cache,
        entries,
        seed=seed,
        batch_size=method.batch_size,
        patches_per_volume=method.patches_per_volume or method.batch_size,
        balanced=method.balance,
        max_pairs=method.max_num_voxels,
    )


def _probe(cache: Cache, found: Chosen, watch: Watch, machine: Machine, seed: int) -> OnlineProbe:
    train, val, names = found.probe  # type: ignore[misc]
    return OnlineProbe(
        cache,
        train,
        val,
        names,
        every_epochs=watch.probe_every,
        seed=seed,
        num_workers=min(1, machine.num_workers),
    )


def _check_that_ranks_agree(backbone: FPN3d) -> None:
    """Every rank must end with rank 0's weights; running statistics are each rank's own unless synchronised."""
    if world_size() == 1:
        return
    total = torch.stack([parameter.detach().double().abs().sum() for parameter in backbone.parameters()])
    if not all(torch.equal(total, other[:, 0]) for other in gathered(total[:, None])):
        raise RuntimeError("the ranks ended with different weights; run again with another version of torch")
