"""`vox2vec pretrain --cache_dir C --log_dir L`: learn voxel vectors from CTs without labels."""

import argparse
import copy
import os
import resource
import sys
import time
import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from vox2vec.cli.machine import add_machine_arguments, precision_of
from vox2vec.cli.sources import add_cache_arguments, add_source_arguments, cache_of, names_data, sources_of
from vox2vec.data.cache import Cache
from vox2vec.data.datasets import PairBatches, labels_in, large_enough
from vox2vec.data.entry import Entry
from vox2vec.data.sources.own import own_data
from vox2vec.data.sources.phantoms import Phantoms
from vox2vec.data.sources.public_sets import btcv
from vox2vec.data.sources.source import Source
from vox2vec.data.splits import published_split
from vox2vec.data.views import MAX_PAIRS
from vox2vec.data.warm_up import warm_up
from vox2vec.distributed import gathered, world_size
from vox2vec.figures.overview import figures_of
from vox2vec.geometry import Box
from vox2vec.inference.embedding import Embedding
from vox2vec.nn.checkpoint import save_backbone
from vox2vec.nn.fpn import FPN3d
from vox2vec.training.datamodule import CountBatches, EndlessData
from vox2vec.training.matching_monitor import MatchingMonitor
from vox2vec.training.online_probe import OnlineProbe
from vox2vec.training.pretraining import Pretraining, SpatialRanges
from vox2vec.training.watching import KeepLast, LoaderWait
from vox2vec.volume import Volume

_LAST = "last.ckpt"
_MEASURED_STEPS = 2
_HOLD_OUT_FROM = 10  # CTs, of which the monitor's one is not trained on; of fewer none can be spared


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec pretrain`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "pretrain",
        help="learn voxel vectors from CTs",
        description="Pre-train a backbone on the CTs of a cache; data sets that are named are warmed first. The "
        "log folder gets last.ckpt, to go on from, and backbone.safetensors, to use.",
    )
    add_cache_arguments(parser)
    parser.add_argument("--log_dir", metavar="DIR", type=Path, required=True)
    add_source_arguments(parser)
    probe = parser.add_argument_group(
        "online probe", "labelled CTs, never trained on; Dice of their structures as it learns"
    )
    probe.add_argument("--btcv_dir", metavar="DIR", type=Path, help="BTCV; its published fold 0")
    probe.add_argument(
        "--probe_dir", metavar="PATH", type=Path, help="any labelled scans, as --data_dir; fold 0 of five"
    )
    probe.add_argument("--probe_phantoms", action="store_true", help="synthetic patients, where no labels are at hand")
    probe.add_argument(
        "--probe_every", metavar="EPOCHS", type=int, default=10, help="between two Dice (default: 10, published)"
    )
    probe.add_argument(
        "--monitor_every",
        metavar="EPOCHS",
        type=int,
        default=10,
        help="between two looks at one CT without labels: points found again in a bent copy of it, and pictures; the "
        "probe's validation CT, or else one that is spared from ten or more (default: 10, as the probe; 0: never)",
    )
    network = parser.add_argument_group("network")
    network.add_argument(
        "--base_channels", metavar="N", type=int, default=16, help="of the finest level (default: 16, published)"
    )
    network.add_argument("--num_scales", metavar="N", type=int, default=6, help="levels (default: 6, published)")
    method = parser.add_argument_group("method")
    method.add_argument(
        "--objective",
        choices=("contrastive", "vicreg"),
        default="contrastive",
        help="(default: contrastive, the published method)",
    )
    method.add_argument("--temperature", type=float, default=0.1, help="of InfoNCE (default: 0.1, published)")
    method.add_argument("--expander_width", metavar="N", type=int, default=2048, help="of VICReg (default: 2048)")
    method.add_argument(
        "--batch_size", metavar="PAIRS", type=int, default=10, help="pairs of patches (default: 10, published)"
    )
    method.add_argument(
        "--micro_batch_size",
        metavar="PAIRS",
        type=int,
        help="whose activations are held at a time, for batches beyond the memory (default: the whole batch, since a "
        "second forward pays for it); all voxels of the batch stay each other's negatives",
    )
    method.add_argument(
        "--patches_per_volume",
        metavar="PAIRS",
        type=int,
        help="of one CT (default: the batch, as released; 1: negatives of many patients, and a CT opened for each)",
    )
    method.add_argument(
        "--balance",
        action="store_true",
        help="draw from each data set equally often, however many CTs it has (default: from each CT, as released)",
    )
    method.add_argument(
        "--max_num_voxels",
        metavar="N",
        type=int,
        default=MAX_PAIRS,
        help=f"voxel pairs of two patches, at most (default: {MAX_PAIRS}, published)",
    )
    method.add_argument(
        "--flip", metavar="P", type=float, default=0.0, help="probability, each axis (default: 0, left is not right)"
    )
    method.add_argument(
        "--rotation", metavar="DEGREES", type=float, default=0.0, help="either way, each axis (default: 0, as released)"
    )
    method.add_argument(
        "--scale",
        metavar=("LOW", "HIGH"),
        nargs=2,
        type=float,
        default=(1.0, 1.0),
        help="rescaling (default: 1 1, as released)",
    )
    training = parser.add_argument_group("training")
    training.add_argument("--lr", type=float, default=3e-4, help="learning rate (default: 3e-4, published)")
    training.add_argument(
        "--optimizer",
        choices=("adam", "adamw"),
        default="adam",
        help="adam at a constant rate, or adamw with warm-up and cosine (default: adam, published)",
    )
    training.add_argument(
        "--warmup_steps", metavar="N", type=int, default=500, help="of adamw (default: 500, 0.5 %% of the steps)"
    )
    training.add_argument("--max_steps", metavar="N", type=int, default=100_000, help="(default: 100000, published)")
    training.add_argument(
        "--num_batches_per_epoch", metavar="N", type=int, default=100, help="(default: 100, published)"
    )
    training.add_argument(
        "--save_every",
        metavar="STEPS",
        type=int,
        default=200,
        help="between two last.ckpt (default: 200, minutes to lose at most)",
    )
    training.add_argument(
        "--num_workers",
        metavar="N",
        type=int,
        default=2,
        help="processes that read patches (default: 2; one gives 200 pairs/s)",
    )
    training.add_argument(
        "--limit_scans", metavar="N", type=int, help="take the first N CTs alone, for a dry run (default: all)"
    )
    training.add_argument("--seed", type=int, default=0, help="of weights, patches and augmentations (default: 0)")
    training.add_argument("--resume", action="store_true", help="go on from the log folder's last.ckpt")
    machine = parser.add_argument_group("machine")
    add_machine_arguments(machine)
    machine.add_argument("--devices", metavar="N", type=int, default=1, help="on each node (default: 1)")
    machine.add_argument("--num_nodes", metavar="N", type=int, default=1, help="(default: 1)")
    machine.add_argument(
        "--sync_batchnorm",
        action="store_true",
        help="statistics over all ranks (default: each its own, less to wait for)",
    )
    machine.add_argument(
        "--channels_last",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="channels of a voxel beside each other in memory (default: yes, 1.5 to 2 times the steps on a CPU)",
    )
    machine.add_argument(
        "--compile",
        action="store_true",
        help="compile the backbone (default: no, minutes at the start that short runs do not earn back)",
    )
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Warm the cache if data sets are named, say what will be done, train, and export the backbone."""
    if arguments.limit_scans is not None and arguments.limit_scans < 1:
        raise ValueError(f"--limit_scans must be at least 1, got {arguments.limit_scans}")
    resumed = _checkpoint_to_resume(arguments)
    cache = cache_of(arguments)
    recipe = cache.recipe
    if names_data(arguments):
        sources, workers = sources_of(arguments), max(1, arguments.num_workers)
        report = warm_up(cache, sources, num_workers=workers, limit=arguments.limit_scans)
        report.write(arguments.cache_dir / "report.csv")
        print(f"cache: {report.stored} CTs stored, {report.present} were there, {len(report.failed)} failed")
    probe = _probe(arguments, cache)
    cached = cache.entries()
    labelled = {entry.path for entry in cached if "labels" in entry.files}  # never learned from
    entries = large_enough([entry for entry in cached if entry.path not in labelled], recipe.patch_size)
    entries = entries[: arguments.limit_scans]
    if not entries:
        raise ValueError(
            f"{arguments.cache_dir} must hold CTs of {recipe.spacing_mm} mm, at least {recipe.patch_size} voxels; "
            "warm it first: vox2vec warmup-cache, with the same --spacing"
        )
    watched = probe.val[0] if probe is not None else entries[-1]
    if probe is None and len(entries) >= _HOLD_OUT_FROM and arguments.monitor_every:
        entries = entries[:-1]
    arguments.log_dir.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore", message=r".*LeafSpec\)` is deprecated")  # Lightning's own, of torch 2.13
    torch.manual_seed(arguments.seed)
    module = _module(arguments, recipe)
    data = _data(arguments, cache, entries)
    board = TensorBoardLogger(arguments.log_dir, name=None, version="")
    watchers = [*([probe] if probe is not None else []), *_monitor(arguments, cache, watched, board)]
    trainer = _trainer(arguments, board, watchers)
    if trainer.is_global_zero:
        print(f"{len(entries)} CTs of {len({entry.source for entry in entries})} data sets; ", end="")
        print(_plan(arguments, module, data, trainer))
    if arguments.compile:
        module.backbone.compile()
    trainer.fit(module, datamodule=data, ckpt_path=resumed, weights_only=True)
    trainer.save_checkpoint(arguments.log_dir / _LAST, weights_only=False)
    _check_that_ranks_agree(module.backbone)
    if trainer.is_global_zero:
        path = arguments.log_dir / "backbone.safetensors"
        save_backbone(
            module.backbone, path, metadata={"trained_by": " ".join(sys.argv), "steps": str(trainer.global_step)}
        )
        print(f"{path}: the backbone after {trainer.global_step} steps, for vox2vec embed --weights")
    return 0


def _checkpoint_to_resume(arguments: argparse.Namespace) -> str | None:
    path = arguments.log_dir / _LAST
    requeued = int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0
    if not path.exists():
        if arguments.resume:
            raise ValueError(f"--resume goes on from {path}, which is not there; leave --resume out to start anew")
        return None
    if arguments.resume or requeued:
        try:
            torch.load(path, weights_only=True, mmap=True)
        except (UnpicklingError, RuntimeError) as error:
            raise ValueError(f"{path} must hold a training's state and no code, it is broken or foreign") from error
        return str(path)
    raise ValueError(f"{arguments.log_dir} holds an earlier run: go on with --resume, or take another --log_dir")


def _probe(arguments: argparse.Namespace, cache: Cache) -> OnlineProbe | None:
    """Heads on fold 0 of the labelled CTs that are named, which are cached with their labels."""
    named: list[Source] = []
    if arguments.btcv_dir is not None:
        named.append(btcv(arguments.btcv_dir).with_labels_only())
    if arguments.probe_dir is not None:
        named.append(own_data(arguments.probe_dir).with_labels_only())
    if arguments.probe_phantoms:
        named.append(Phantoms())
    if len(named) > 1:
        raise ValueError("the probe takes one of --btcv_dir, --probe_dir and --probe_phantoms, got several")
    if not named:
        return None
    labelled = named[0]
    warm_up(cache, [labelled], labels=True, num_workers=max(1, arguments.num_workers))
    keys = {cache.key(labelled, id, labels=True) for id in labelled.ids}
    entries = {entry.id: entry for entry in cache.entries() if entry.key in keys}
    split = published_split(list(entries), 0)
    numbers = labelled.label_names or labels_in(cache, list(entries.values()))
    return OnlineProbe(
        cache,
        [entries[id] for id in split.train],
        [entries[id] for id in split.val],
        numbers,
        every_epochs=arguments.probe_every,
        seed=arguments.seed,
    )


def _module(arguments: argparse.Namespace, recipe: Any) -> Pretraining:
    backbone = FPN3d(base_channels=arguments.base_channels, num_scales=arguments.num_scales)
    backbone.recipe = recipe
    return Pretraining(
        backbone,
        objective=arguments.objective,
        temperature=arguments.temperature,
        expander_width=arguments.expander_width,
        learning_rate=arguments.lr,
        optimizer=arguments.optimizer,
        warmup_steps=arguments.warmup_steps,
        max_steps=arguments.max_steps,
        channels_last=arguments.channels_last,
        micro_batch_size=arguments.micro_batch_size,
        spatial=SpatialRanges(arguments.flip, arguments.rotation, tuple(arguments.scale)),
        seed=arguments.seed,
        failure_path=arguments.log_dir / "failed_batch.json",
    )


def _data(arguments: argparse.Namespace, cache: Cache, entries: list[Entry]) -> EndlessData[PairBatches]:
    batches = PairBatches(
        cache,
        entries,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        patches_per_volume=arguments.patches_per_volume or arguments.batch_size,
        balanced=arguments.balance,
        max_pairs=arguments.max_num_voxels,
    )
    return EndlessData(batches, num_workers=arguments.num_workers)


def _monitor(
    arguments: argparse.Namespace, cache: Cache, entry: Entry, board: TensorBoardLogger
) -> list[MatchingMonitor]:
    """Of one CT, with its pictures in the log folder and on the board."""
    if not arguments.monitor_every:
        return []
    scan = cache.open(entry)
    whole = Box((0, 0, 0), scan.shape)
    volume = Volume(scan.image_hu(whole), np.array(entry.affine))
    middle = np.argwhere(scan.body(whole))
    middle = middle[np.abs(middle - (np.array(scan.shape) - 1) / 2).sum(axis=1).argmin()]

    def draw(scan: Volume, embedding: Embedding, step: int) -> None:
        for name, figure in figures_of(embedding, scan, point_mm=volume.to_mm(middle).tolist()).items():
            path = arguments.log_dir / "pictures" / f"{name}_{step:06d}.png"
            path.parent.mkdir(exist_ok=True)
            figure.savefig(path)
            board.experiment.add_figure(name, figure, step)

    return [
        MatchingMonitor(
            volume,
            cache.recipe.patch_size,
            every_epochs=arguments.monitor_every,
            draw=draw,
            seed=arguments.seed,
        )
    ]


def _trainer(arguments: argparse.Namespace, board: TensorBoardLogger, watchers: list[Any]) -> pl.Trainer:
    log_dir = arguments.log_dir
    return pl.Trainer(
        accelerator=arguments.accelerator,
        devices=arguments.devices,
        num_nodes=arguments.num_nodes,
        precision=precision_of(arguments),
        max_steps=arguments.max_steps,
        limit_train_batches=arguments.num_batches_per_epoch,
        gradient_clip_val=1.0,
        sync_batchnorm=arguments.sync_batchnorm,
        use_distributed_sampler=False,  # `BatchOrder` shares the stream out
        log_every_n_steps=min(10, arguments.num_batches_per_epoch),
        num_sanity_val_steps=0,
        enable_model_summary=False,  # `_plan` says it
        enable_checkpointing=False,  # `KeepLast` keeps what is needed
        logger=[board, CSVLogger(log_dir, name="csv")],
        callbacks=[
            CountBatches(),
            LoaderWait(),
            LearningRateMonitor("step"),
            *watchers,
            KeepLast(log_dir / _LAST, every_steps=arguments.save_every),
        ],
    )


def _check_that_ranks_agree(backbone: FPN3d) -> None:
    """Every rank must end with rank 0's weights; running statistics are each rank's own unless synchronised."""
    if world_size() == 1:
        return
    total = torch.stack([parameter.detach().double().abs().sum() for parameter in backbone.parameters()])
    if not all(torch.equal(total, other[:, 0]) for other in gathered(total[:, None])):
        raise RuntimeError("the ranks ended with different weights; run again with another version of torch")


def _plan(
    arguments: argparse.Namespace, module: Pretraining, data: EndlessData[PairBatches], trainer: pl.Trainer
) -> str:
    """What the run will do, with time and memory from a few steps of a copy, on the run's device and precision."""
    device = trainer.strategy.root_device
    trial, batch = copy.deepcopy(module).to(device), data.batches[0]
    batch = batch._replace(patches_hu=batch.patches_hu.to(device), voxels=[v.to(device) for v in batch.voxels])
    seconds = []
    for _ in range(_MEASURED_STEPS):
        start = time.perf_counter()
        with trainer.precision_plugin.forward_context():
            _, embeddings = trial.embedded(batch)
            loss = trial.loss_of(embeddings)
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    million = sum(p.numel() for p in module.backbone.parameters()) / 1e6
    hours = min(seconds) * arguments.max_steps / 3600
    return (
        f"{arguments.max_steps} steps of {arguments.batch_size} pairs of "
        f"{'x'.join(map(str, module.backbone.recipe.patch_size))} patches; {million:.1f} million parameters\n"
        f"on {device} a step takes {min(seconds):.1f} s, so the run {hours:.1f} h, in {_peak_gib(device):.1f} GiB"
    )


def _peak_gib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
