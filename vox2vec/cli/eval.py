"""`vox2vec eval`: probing, fine-tuning and training from scratch on labelled CTs, in folds by patient."""

import argparse
import logging
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from vox2vec.cli.labelled import add_labelled_arguments, labelled_sets
from vox2vec.cli.machine import add_machine_arguments, precision_of
from vox2vec.cli.sources import add_cache_arguments
from vox2vec.data.cache import Cache
from vox2vec.data.datasets import labels_in
from vox2vec.data.sources.source import Source
from vox2vec.data.splits import FOLDS, Split, few_shot, published_split, splits_from_file
from vox2vec.data.warm_up import warm_up
from vox2vec.evaluation.comparison import paper_table, print_table
from vox2vec.evaluation.fold import Protocol, run_fold
from vox2vec.evaluation.nearest_fold import Neighbours, run_nearest_fold
from vox2vec.evaluation.results import Results, summary
from vox2vec.evaluation.run_folder import draw, fold_folder, keep_settings, write_results
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.pretrained import fingerprint, load_backbone
from vox2vec.recipe import PAPER

SOME_FAILED = 1
SETUPS = ("probing", "fine-tuning", "from_scratch", "knn")
_THAWED_SHARE = 0.2  # of the learning rate, for a thawed backbone, as the released code meant


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec eval`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "eval",
        help="segment labelled CTs with a backbone, in folds",
        description="Train heads on a backbone, frozen or not, and test them on whole CTs of other patients. The "
        "defaults are the published protocol. The log folder gets results.json, summary.csv, figures, the heads and "
        "the labels they found; run again, a killed evaluation goes on where it was.",
    )
    add_cache_arguments(parser)
    parser.set_defaults(spacing=None, patch_size=None)  # those of the weights, where there are any
    parser.add_argument("--log_dir", metavar="DIR", type=Path, required=True)
    parser.add_argument(
        "--setup",
        choices=SETUPS,
        required=True,
        help="knn: without training, each voxel asks the most similar voxels of the labelled CTs",
    )
    parser.add_argument(
        "--ckpt",
        metavar="WEIGHTS",
        help="contrastive, vicreg, small, a file, a Hub repository; random: fresh weights, with batch "
        "norms measured on the CTs to learn from, to compare with",
    )
    parser.add_argument("--split", default="0", help="0 to 4, or all (default: 0)")
    parser.add_argument(
        "--splits_file",
        metavar="JSON",
        type=Path,
        help='your own splits, {"0": {"train": [ids], "val": [ids], "test": [ids]}} (default: five folds by patient)',
    )
    add_labelled_arguments(parser)
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
    published, voting = Protocol(), Neighbours()
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
    knn = parser.add_argument_group("knn")
    knn.add_argument("--neighbours", metavar="N", type=int, default=voting.neighbours, help="that vote (default: 20)")
    knn.add_argument(
        "--temperature", type=float, default=voting.temperature, help="of the cosine similarities (default: 0.05)"
    )
    knn.add_argument(
        "--smoothing",
        metavar="MM",
        type=float,
        default=voting.smoothing_mm,
        help="Gaussian that votes are averaged by (default: 3; 0: none)",
    )
    machine = parser.add_argument_group("machine")
    add_machine_arguments(machine)
    machine.add_argument("--num_workers", metavar="N", type=int, default=2, help="(default: 2)")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Every named data set and fold; files and a table at the end."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r".*LeafSpec\)` is deprecated")  # Lightning's own, of torch 2.13
    warnings.filterwarnings("ignore", message="You're resuming from a checkpoint")  # `EndlessData` knows its place
    warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")  # the frozen backbone
    _check(arguments)
    backbone = _backbone(arguments)
    sets = labelled_sets(arguments)
    finished = {}
    for name, source in sets.items():
        try:
            finished[name] = _evaluate(arguments, backbone, source, arguments.log_dir / name)
        except ValueError as error:
            if len(sets) == 1:
                raise
            print(f"left out: {source.name}: {error}", file=sys.stderr)
    if arguments.dataset == "paper":
        print_table(*paper_table(finished))
    return SOME_FAILED if len(finished) < len(sets) else 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.splits_file is None and arguments.split not in ("all", *map(str, range(FOLDS))):
        raise ValueError(f"--split must be 0 to {FOLDS - 1}, or all; got {arguments.split!r}")
    if arguments.setup == "from_scratch" and arguments.ckpt is not None:
        raise ValueError("--setup from_scratch starts from fresh weights; leave --ckpt out, or take fine-tuning")
    if arguments.setup != "from_scratch" and arguments.ckpt is None:
        raise ValueError(
            f"--setup {arguments.setup} needs --ckpt: contrastive, vicreg, small, a file or a Hub repository; "
            "--ckpt random compares with untrained weights"
        )
    least = {"epochs": 1, "num_batches_per_epoch": 1, "batch_size": 1, "val_every": 1, "save_every": 1, "neighbours": 1}
    for name, low in {**least, "num_val_scans": 0, "freeze_epochs": 0, "num_workers": 0, "smoothing": 0}.items():
        if getattr(arguments, name) < low:
            raise ValueError(f"--{name} must be at least {low}, got {getattr(arguments, name)}")
    if arguments.temperature <= 0:
        raise ValueError(f"--temperature must be above 0, got {arguments.temperature}")


def _backbone(arguments: argparse.Namespace) -> FPN3d:
    """The network to start from, with the recipe to prepare CTs by."""
    asked: dict[str, Any] = {
        name: tuple(value)
        for name, value in (("spacing_mm", arguments.spacing), ("patch_size", arguments.patch_size))
        if value is not None
    }
    if arguments.ckpt not in (None, "random"):
        backbone = load_backbone(arguments.ckpt)
        for name, value in asked.items():
            wanted = getattr(backbone.recipe, name)
            if wanted != value:
                raise ValueError(
                    f"CTs must be prepared as for the pre-training, {name} {wanted}; got {value}. "
                    "Leave --spacing and --patch_size out: the weights say them"
                )
        return backbone
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(arguments.seed)
        backbone = FPN3d(base_channels=arguments.base_channels, num_scales=arguments.num_scales).eval()
    backbone.recipe = replace(PAPER, **asked)
    return backbone


def _splits(arguments: argparse.Namespace, source: Source) -> dict[str, Split]:
    """The asked ones, by name."""
    if arguments.splits_file is not None:
        splits = splits_from_file(arguments.splits_file, source.ids)
    else:
        splits = {
            str(fold): published_split(list(source.ids), fold, num_val=arguments.num_val_scans) for fold in range(FOLDS)
        }
    if arguments.split not in ("all", *splits):
        raise ValueError(f"--split must be one of {', '.join(splits)}, or all; got {arguments.split!r}")
    chosen = splits if arguments.split == "all" else {arguments.split: splits[arguments.split]}
    if arguments.train_size is None:
        return chosen
    return {name: few_shot(split, arguments.train_size, seed=arguments.seed) for name, split in chosen.items()}


def _evaluate(arguments: argparse.Namespace, backbone: FPN3d, source: Source, log_dir: Path) -> Results:
    """All folds of one data set that are not finished, and the files for a person."""
    splits = _splits(arguments, source)
    cache = Cache(arguments.cache_dir, backbone.recipe, table=not arguments.no_table)
    report = warm_up(cache, [source], labels=True, num_workers=arguments.num_workers)
    for failure in report.failed:
        print(f"left out: {failure.path}: {failure.reason}", file=sys.stderr)
    keys = {cache.key(source, id, labels=True) for id in source.ids}
    entries = {entry.id: entry for entry in cache.entries() if entry.key in keys}
    names = dict(sorted((source.label_names or labels_in(cache, list(entries.values()))).items()))
    protocol = _neighbours(arguments) if arguments.setup == "knn" else _protocol(arguments)
    settings = _settings(arguments, backbone, source, names, protocol)
    keep_settings(log_dir, settings)
    results = Results(settings, {str(number): name for number, name in names.items()}, {})
    for fold, split in splits.items():
        print(
            f"{source.name}, fold {fold}: {len(split.train)} CTs to learn from, {len(split.val)} to choose by, "
            f"{len(split.test)} to test on"
        )
        torch.manual_seed(arguments.seed)
        run_one = (cache, entries, source, split, names, backbone, fold_folder(log_dir, fold))
        if isinstance(protocol, Neighbours):
            run_nearest_fold(protocol, *run_one)
        else:
            run_fold(protocol, *run_one)
        results = write_results(log_dir, settings, names)
        _say(results)
    draw(results, source, log_dir)
    return results


def _protocol(arguments: argparse.Namespace) -> Protocol:
    frozen = {"probing": None, "fine-tuning": arguments.freeze_epochs, "from_scratch": 0}[arguments.setup]
    rate = arguments.backbone_lr
    if rate is None and arguments.setup == "fine-tuning":
        rate = _THAWED_SHARE * arguments.lr
    return Protocol(
        heads=tuple(arguments.heads or (("linear", "nonlinear") if frozen is None else ("linear",))),
        epochs=arguments.epochs,
        batches_per_epoch=arguments.num_batches_per_epoch,
        batch_size=arguments.batch_size,
        learning_rate=arguments.lr,
        backbone_learning_rate=rate,
        frozen_epochs=frozen,
        schedule=arguments.schedule,
        fresh=arguments.ckpt == "random",
        val_every=arguments.val_every,
        save_every=arguments.save_every,
        num_workers=arguments.num_workers,
        accelerator=arguments.accelerator,
        precision=precision_of(arguments),
        seed=arguments.seed,
    )


def _neighbours(arguments: argparse.Namespace) -> Neighbours:
    return Neighbours(
        neighbours=arguments.neighbours,
        temperature=arguments.temperature,
        smoothing_mm=arguments.smoothing,
        seed=arguments.seed,
        fresh=arguments.ckpt == "random",
        precision={None: "auto", "16": "auto"}.get(arguments.precision, arguments.precision),
        device={"gpu": "cuda"}.get(arguments.accelerator, arguments.accelerator),
    )


def _settings(
    arguments: argparse.Namespace,
    backbone: FPN3d,
    source: Source,
    names: Mapping[int, str],
    protocol: Protocol | Neighbours,
) -> dict[str, Any]:
    """What makes one run comparable with another, and what must not change when it goes on."""
    machine = ("num_workers", "accelerator", "device", "save_every")
    return {
        "setup": arguments.setup,
        "data": source.name,
        "structures": {str(number): name for number, name in names.items()},
        "weights": arguments.ckpt or "fresh",
        "fingerprint": fingerprint(backbone),
        "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
        "recipe": backbone.recipe.as_dict(),
        "table": not arguments.no_table,
        "train_size": arguments.train_size,
        "num_val_scans": arguments.num_val_scans,
        "splits": str(arguments.splits_file) if arguments.splits_file else "published",
        "protocol": {name: value for name, value in vars(protocol).items() if name not in machine},
        "versions": {name: version(name) for name in ("vox2vec", "torch", "numpy", "monai", "pytorch-lightning")},
    }


def _say(results: Results) -> None:
    for row in summary(results):
        if row.structure == "mean" and row.metric == "dice":
            patients = len(results.patients(row.head))
            print(
                f"  {row.head}: Dice {row.mean:.3f}, 95 % interval {row.low:.3f} to {row.high:.3f}, {patients} patients"
            )
