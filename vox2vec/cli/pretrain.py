"""`vox2vec pretrain --cache_dir C --log_dir L`: learn voxel vectors from CTs without labels."""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from vox2vec.cli.arguments import add_cache, add_device, add_sources, cache_of, names_data, sources_of
from vox2vec.cli.config import add_config_argument
from vox2vec.data.sources.own import own_data
from vox2vec.data.sources.phantoms import Phantoms
from vox2vec.data.sources.public_sets import btcv
from vox2vec.data.sources.source import Source
from vox2vec.training.machine import Machine
from vox2vec.training.run import pretrain
from vox2vec.training.settings import Method, Network, Schedule, Watch

_Settings = TypeVar("_Settings")


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec pretrain`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "pretrain",
        description="Pre-train a backbone on the CTs of a cache; data sets that are named are warmed first. The "
        "log folder gets last.ckpt, to go on from, and backbone.safetensors, to use.",
    )
    add_config_argument(parser)
    add_cache(parser)
    parser.add_argument("--log_dir", metavar="DIR", type=Path, required=True)
    add_sources(parser)
    probe = parser.add_argument_group(
        "online probe", "labelled CTs, never trained on; Dice of their structures as it learns"
    )
    probe.add_argument("--btcv_dir", metavar="DIR", type=Path, help="BTCV; its published fold 0")
    probe.add_argument(
        "--probe_dir", metavar="PATH", type=Path, help="any labelled scans, as --data_dir; fold 0 of five"
    )
    probe.add_argument("--probe_phantoms", action="store_true", help="synthetic patients, where no labels are at hand")
    probe.add_argument(
        "--probe_every",
        metavar="EPOCHS",
        type=int,
        default=Watch.probe_every,
        help="between two Dice (default: 10, published)",
    )
    probe.add_argument(
        "--monitor_every",
        metavar="EPOCHS",
        type=int,
        default=Watch.monitor_every,
        help="between two looks at one CT without labels: points found again in a bent copy of it, and pictures; the "
        "probe's validation CT, or else one that is spared from ten or more (default: 10, as the probe; 0: never)",
    )
    network = parser.add_argument_group("network")
    network.add_argument(
        "--base_channels",
        metavar="N",
        type=int,
        default=Network.base_channels,
        help="of the finest level (default: 16, published)",
    )
    network.add_argument(
        "--num_scales", metavar="N", type=int, default=Network.num_scales, help="levels (default: 6, published)"
    )
    method = parser.add_argument_group("method")
    method.add_argument(
        "--objective",
        choices=("contrastive", "vicreg"),
        default=Method.objective,
        help="(default: contrastive, the published method)",
    )
    method.add_argument(
        "--temperature", type=float, default=Method.temperature, help="of InfoNCE (default: 0.1, published)"
    )
    method.add_argument(
        "--expander_width", metavar="N", type=int, default=Method.expander_width, help="of VICReg (default: 2048)"
    )
    method.add_argument(
        "--batch_size",
        metavar="PAIRS",
        type=int,
        default=Method.batch_size,
        help="pairs of patches (default: 10, published)",
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
        default=Method.max_num_voxels,
        help=f"voxel pairs of two patches, at most (default: {Method.max_num_voxels}, published)",
    )
    method.add_argument(
        "--flip",
        metavar="P",
        type=float,
        default=Method.flip,
        help="probability, each axis (default: 0, left is not right)",
    )
    method.add_argument(
        "--rotation",
        metavar="DEGREES",
        type=float,
        default=Method.rotation,
        help="either way, each axis (default: 0, as released)",
    )
    method.add_argument(
        "--scale",
        metavar=("LOW", "HIGH"),
        nargs=2,
        type=float,
        default=Method.scale,
        help="rescaling (default: 1 1, as released)",
    )
    training = parser.add_argument_group("training")
    training.add_argument("--lr", type=float, default=Schedule.lr, help="learning rate (default: 3e-4, published)")
    training.add_argument(
        "--optimizer",
        choices=("adam", "adamw"),
        default=Schedule.optimizer,
        help="adam at a constant rate, or adamw with warm-up and cosine (default: adam, published)",
    )
    training.add_argument(
        "--warmup_steps",
        metavar="N",
        type=int,
        default=Schedule.warmup_steps,
        help="of adamw (default: 500, 0.5 %% of the steps)",
    )
    training.add_argument(
        "--max_steps", metavar="N", type=int, default=Schedule.max_steps, help="(default: 100000, published)"
    )
    training.add_argument(
        "--num_batches_per_epoch",
        metavar="N",
        type=int,
        default=Schedule.num_batches_per_epoch,
        help="(default: 100, published)",
    )
    training.add_argument(
        "--save_every",
        metavar="STEPS",
        type=int,
        default=Schedule.save_every,
        help="between two last.ckpt (default: 200, minutes to lose at most)",
    )
    training.add_argument(
        "--num_workers",
        metavar="N",
        type=int,
        default=Machine.num_workers,
        help="processes that read patches (default: 2; one gives 200 pairs/s)",
    )
    training.add_argument(
        "--limit_scans", metavar="N", type=int, help="take the first N CTs alone, for a dry run (default: all)"
    )
    training.add_argument("--seed", type=int, default=0, help="of weights, patches and augmentations (default: 0)")
    training.add_argument("--resume", action="store_true", help="go on from the log folder's last.ckpt")
    machine = parser.add_argument_group("machine")
    add_device(machine, training=True)
    machine.add_argument("--devices", metavar="N", type=int, default=Machine.devices, help="on each node (default: 1)")
    machine.add_argument("--num_nodes", metavar="N", type=int, default=Machine.num_nodes, help="(default: 1)")
    machine.add_argument(
        "--sync_batchnorm",
        action="store_true",
        help="statistics over all ranks (default: each its own, less to wait for)",
    )
    machine.add_argument(
        "--channels_last",
        action=argparse.BooleanOptionalAction,
        default=Machine.channels_last,
        help="channels of a voxel beside each other in memory (default: yes, 1.5 to 2 times the steps on a CPU)",
    )
    machine.add_argument(
        "--compile",
        action="store_true",
        help="compile the backbone (default: no, minutes at the start that short runs do not earn back)",
    )
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Pre-train as the arguments say."""
    pretrain(
        cache_of(arguments),
        arguments.log_dir,
        sources=sources_of(arguments, num_workers=arguments.num_workers) if names_data(arguments) else (),
        network=_settings(Network, arguments),
        method=_settings(Method, arguments, scale=tuple(arguments.scale)),
        schedule=_settings(Schedule, arguments),
        watch=_settings(Watch, arguments, probe=_probe(arguments)),
        machine=_settings(Machine, arguments, accelerator=arguments.device),
        **{name: getattr(arguments, name) for name in ("limit_scans", "seed", "resume", "config")},
        say=print,
    )
    return 0


def _settings(kind: type[_Settings], arguments: argparse.Namespace, **more: Any) -> _Settings:
    """Settings whose names are those of arguments."""
    names = {field.name for field in fields(kind)} - set(more)  # type: ignore[arg-type]
    return kind(**{name: getattr(arguments, name) for name in names}, **more)


def _probe(arguments: argparse.Namespace) -> Source | None:
    """The labelled CTs that are named."""
    named: list[Source] = []
    if arguments.btcv_dir is not None:
        named.append(btcv(arguments.btcv_dir).with_labels_only())
    if arguments.probe_dir is not None:
        named.append(own_data(arguments.probe_dir).with_labels_only())
    if arguments.probe_phantoms:
        named.append(Phantoms())
    if len(named) > 1:
        raise ValueError("the probe takes one of --btcv_dir, --probe_dir and --probe_phantoms, got several")
    return named[0] if named else None
