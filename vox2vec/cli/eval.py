"""`vox2vec eval`: probing, fine-tuning and training from scratch on labelled CTs, in folds by patient."""

import argparse
import logging
import sys
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from vox2vec.cli.arguments import add_cache, add_device, add_labelled, add_weights, labelled_sets
from vox2vec.cli.config import add_config_argument
from vox2vec.data.cache import Cache
from vox2vec.data.splits import FOLDS
from vox2vec.evaluation.atlas_fold import Carrying
from vox2vec.evaluation.evaluate import Setup, evaluate_all
from vox2vec.evaluation.fold import Protocol
from vox2vec.evaluation.nearest_fold import Neighbours
from vox2vec.evaluation.published import paper_table
from vox2vec.evaluation.table import markdown
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.fresh import fresh_backbone
from vox2vec.nn.pretrained import load_backbone
from vox2vec.recipe import PAPER
from vox2vec.training.machine import precision_of

SOME_FAILED = 1


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec eval`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "eval",
        description="Train heads on a backbone, frozen or not, and test them on whole CTs of other patients. The "
        "defaults are the published protocol. The log folder gets results.json, summary.csv, figures, the heads and "
        "the labels they found; run again, a killed evaluation goes on where it was.",
    )
    add_config_argument(parser)
    add_cache(parser)
    parser.set_defaults(spacing=None, patch_size=None)  # those of the weights, where there are any
    parser.add_argument("--log_dir", metavar="DIR", type=Path, required=True)
    parser.add_argument(
        "--setup",
        choices=get_args(Setup),
        required=True,
        help="without training, knn: each voxel asks the most similar voxels of the labelled CTs; atlas: their "
        "structures are carried by a field between the CTs",
    )
    add_weights(
        parser,
        alias_ckpt=True,
        help="contrastive, vicreg, small, a file, a Hub repository; random: fresh weights, with batch norms measured "
        "on the CTs to learn from, to compare with",
    )
    parser.add_argument("--split", default="0", help="0 to 4, or all (default: 0)")
    parser.add_argument(
        "--splits_file",
        metavar="JSON",
        type=Path,
        help='your own splits, {"0": {"train": [ids], "val": [ids], "test": [ids]}} (default: five folds by patient)',
    )
    add_labelled(parser)
    network = parser.add_argument_group("network", "of random weights and of training from scratch")
    network.add_argument("--base_channels", metavar="N", type=int, default=16, help="(default: 16, published)")
    network.add_argument("--num_scales", metavar="N", type=int, default=6, help="(default: 6, published)")
    data = parser.add_argument_group("protocol")
    data.add_argument("--train_size", metavar="N", type=int, help="labelled scans to learn from (default: all)")
    data.add_argument(
        "--num_val_scans",
        metavar="N",
        type=int,
        default=1,
        help="to choose the epoch by; 0: take the last (default: 1, published, and noisy)",
    )
    data.add_argument(
        "--heads",
        nargs="+",
        choices=("linear", "nonlinear"),
        help="(default: both for probing; linear where the backbone learns, published)",
    )
    published, voting, carrying = Protocol(), Neighbours(), Carrying()
    data.add_argument("--epochs", metavar="N", type=int, default=published.epochs, help="(default: 150, published)")
    data.add_argument(
        "--num_batches_per_epoch",
        metavar="N",
        type=int,
        default=published.batches_per_epoch,
        help="(default: 300, published)",
    )
    data.add_argument(
        "--batch_size", metavar="PATCHES", type=int, default=published.batch_size, help="(default: 7, published)"
    )
    data.add_argument("--lr", type=float, default=published.learning_rate, help="Adam (default: 3e-4, published)")
    data.add_argument(
        "--freeze_epochs",
        metavar="N",
        type=int,
        default=50,
        help="of fine-tuning, before the backbone thaws (default: 50)",
    )
    data.add_argument(
        "--backbone_lr",
        metavar="LR",
        type=float,
        help="of a thawed backbone (default: a fifth of --lr in fine-tuning, --lr from scratch)",
    )
    data.add_argument(
        "--schedule",
        choices=("constant", "cosine"),
        default=published.schedule,
        help="of the learning rates; cosine: down to zero with the last step, for short trainings (default: constant, "
        "published)",
    )
    data.add_argument("--val_every", metavar="EPOCHS", type=int, default=published.val_every, help="(default: 10)")
    data.add_argument(
        "--save_every",
        metavar="STEPS",
        type=int,
        default=published.save_every,
        help="between two checkpoints to go on from (default: 300)",
    )
    data.add_argument(
        "--seed", type=int, default=0, help="of heads, patches, random weights, --train_size (default: 0)"
    )
    knn = parser.add_argument_group("knn and atlas")
    knn.add_argument(
        "--neighbours", metavar="N", type=int, default=voting.neighbours, help="that vote, of knn (default: 20)"
    )
    knn.add_argument(
        "--near",
        metavar="MM",
        type=float,
        default=carrying.near_mm,
        help="from the field's place to the voxels that vote, of atlas (default: 4)",
    )
    knn.add_argument(
        "--temperature", type=float, default=voting.temperature, help="of the cosine similarities (default: 0.05)"
    )
    knn.add_argument(
        "--smoothing",
        metavar="MM",
        type=float,
        help="Gaussian that votes are averaged by (default: 3 for knn, 0 for atlas: none)",
    )
    machine = parser.add_argument_group("machine")
    add_device(machine, training=True)
    machine.add_argument("--num_workers", metavar="N", type=int, default=2, help="(default: 2)")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Every named data set and fold; files and a table at the end."""
    _quiet()
    _check(arguments)
    backbone = _backbone(arguments)
    sets = labelled_sets(arguments)
    to_stderr = partial(print, file=sys.stderr)
    options = _options(arguments, backbone)
    finished = evaluate_all(sets, backbone, log_dir=arguments.log_dir, say=print, warn=to_stderr, **options)
    if arguments.dataset == "paper":
        print(markdown(*paper_table(finished)))
    return SOME_FAILED if len(finished) < len(sets) else 0


def _quiet() -> None:
    """Without what Lightning says of its own."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r".*LeafSpec\)` is deprecated")  # Lightning's own, of torch 2.13
    warnings.filterwarnings("ignore", message="You're resuming from a checkpoint")  # `EndlessData` knows its place
    warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")  # the frozen backbone


def _check(arguments: argparse.Namespace) -> None:
    if arguments.splits_file is None and arguments.split not in ("all", *map(str, range(FOLDS))):
        raise ValueError(f"--split must be 0 to {FOLDS - 1}, or all; got {arguments.split!r}")
    if arguments.setup == "from_scratch" and arguments.weights is not None:
        raise ValueError("--setup from_scratch starts from fresh weights; leave --weights out, or take fine-tuning")
    if arguments.setup != "from_scratch" and arguments.weights is None:
        raise ValueError(
            f"--setup {arguments.setup} needs --weights: contrastive, vicreg, small, a file or a Hub repository; "
            "--weights random compares with untrained weights"
        )
    least = {"epochs": 1, "num_batches_per_epoch": 1, "batch_size": 1, "val_every": 1, "save_every": 1, "neighbours": 1}
    for name, low in {**least, "num_val_scans": 0, "freeze_epochs": 0, "num_workers": 0, "smoothing": 0}.items():
        if (value := getattr(arguments, name)) is not None and value < low:
            raise ValueError(f"--{name} must be at least {low}, got {value}")
    for name in ("temperature", "near"):
        if getattr(arguments, name) <= 0:
            raise ValueError(f"--{name} must be above 0, got {getattr(arguments, name)}")


def _backbone(arguments: argparse.Namespace) -> FPN3d:
    """The network to start from, with the recipe to prepare CTs by."""
    asked: dict[str, Any] = {
        name: tuple(value)
        for name, value in (("spacing_mm", arguments.spacing), ("patch_size", arguments.patch_size))
        if value is not None
    }
    if arguments.weights not in (None, "random"):
        backbone = load_backbone(arguments.weights)
        for name, value in asked.items():
            wanted = getattr(backbone.recipe, name)
            if wanted != value:
                raise ValueError(
                    f"CTs must be prepared as for the pre-training, {name} {wanted}; got {value}. "
                    "Leave --spacing and --patch_size out: the weights say them"
                )
        return backbone
    return fresh_backbone(
        arguments.seed,
        base_channels=arguments.base_channels,
        num_scales=arguments.num_scales,
        recipe=replace(PAPER, **asked),
    )


def _options(arguments: argparse.Namespace, backbone: FPN3d) -> dict[str, Any]:
    """Of `evaluate`."""
    same = ("setup", "split", "train_size", "num_workers")
    return {
        "cache": Cache(arguments.cache_dir, backbone.recipe, table=not arguments.no_table),
        "protocol": (_untrained if arguments.setup in ("knn", "atlas") else _protocol)(arguments),
        "weights": arguments.weights or "fresh",
        "splits": arguments.splits_file,
        "config": arguments.config,
        "num_val": arguments.num_val_scans,
        **{name: getattr(arguments, name) for name in same},
    }


def _protocol(arguments: argparse.Namespace) -> Protocol:
    same = ("heads", "epochs", "batch_size", "schedule", "val_every", "save_every", "num_workers", "seed")
    return Protocol.of(
        arguments.setup,
        frozen_epochs=arguments.freeze_epochs,
        batches_per_epoch=arguments.num_batches_per_epoch,
        learning_rate=arguments.lr,
        backbone_learning_rate=arguments.backbone_lr,
        fresh=arguments.weights == "random",
        accelerator=arguments.device,
        precision=precision_of(arguments.precision, arguments.device),
        **{name: getattr(arguments, name) for name in same},
    )


def _untrained(arguments: argparse.Namespace) -> Neighbours | Carrying:
    same: dict[str, Any] = {
        "temperature": arguments.temperature,
        "seed": arguments.seed,
        "fresh": arguments.weights == "random",
        "precision": {None: "auto", "16": "auto"}.get(arguments.precision, arguments.precision),
        "device": {"gpu": "cuda"}.get(arguments.device, arguments.device),
    }
    if arguments.smoothing is not None:
        same["smoothing_mm"] = arguments.smoothing
    if arguments.setup == "knn":
        return Neighbours(neighbours=arguments.neighbours, **same)
    return Carrying(near_mm=arguments.near, **same)
