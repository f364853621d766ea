"""`vox2vec demo`: the whole story on synthetic patients, offline: cache, pre-training, probes, pictures, a report."""

import argparse
import csv
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from vox2vec.cli import pretrain
from vox2vec.data.cache import Cache
from vox2vec.data.phantom import Phantom, phantom
from vox2vec.data.sources.phantoms import Phantoms
from vox2vec.data.sources.structures import BTCV_ORGANS
from vox2vec.data.warm_up import warm_up
from vox2vec.evaluation.landmarks import landmark_errors, landmark_table
from vox2vec.figures.charts import dice_figure, loss_figure
from vox2vec.figures.pca import pca_figure
from vox2vec.figures.report import Report
from vox2vec.figures.similarity import similarity_figure
from vox2vec.figures.slices import slices_figure
from vox2vec.inference.embedding import Embedding
from vox2vec.matching.deformation import bent_pair
from vox2vec.matching.recovery import matching_errors, recall
from vox2vec.nn.checkpoint import save_backbone
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.pretrained import load_backbone
from vox2vec.preprocessing.prepare import prepare_hu
from vox2vec.recipe import Recipe
from vox2vec.training.online_probe import OnlineProbe

RECIPE = Recipe(spacing_mm=(5.0, 5.0, 5.0), patch_size=(24, 24, 24))
NETWORK = {"base_channels": 8, "num_scales": 4}
LEARNED_FROM = Phantoms(32, first=100, spacing_mm=RECIPE.spacing_mm)
LABELLED = Phantoms(8, first=0, spacing_mm=RECIPE.spacing_mm)
NUM_TRAIN = 4  # of the labelled ones; the others are tested on
WITHIN_MM = 10.0
_PROBE_LR = 1e-2  # more than the published 3e-4, for a hundredth of its steps

_Scores = dict[str, dict[str, float]]  # head to structure to Dice


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec demo`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="pre-train and probe on synthetic CTs, offline",
        description="Pre-train a small network on synthetic torsos, compare its features with an untrained network's "
        "on others, and write it all to one report.html; no data needed, ten to fifteen minutes on two CPU cores.",
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, default=Path("vox2vec_demo"), help="(default: vox2vec_demo)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the networks and of all that is drawn (default: 0)")
    parser.add_argument("--max_steps", type=int, default=1000, help="of pre-training (default: 1000)")
    parser.add_argument("--probe_steps", type=int, default=200, help="of the heads (default: 200)")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Cache, pre-train, probe, draw, report."""
    out: Path = arguments.output
    out.mkdir(parents=True, exist_ok=True)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    cache = Cache(out / "cache", RECIPE)
    print(f"1. {LEARNED_FROM.count + LABELLED.count} synthetic patients into {cache.folder}")
    warm_up(cache, [LEARNED_FROM], num_workers=0)
    warm_up(cache, [LABELLED], labels=True, num_workers=0)

    print(f"2. pre-training on {LEARNED_FROM.count} of them, without labels")
    log_dir = out / f"run_seed{arguments.seed}_steps{arguments.max_steps}"  # whatever ran before with other options
    words = _pretraining(arguments, log_dir)
    commands = argparse.ArgumentParser().add_subparsers()
    pretrain.run(pretrain.add_parser(commands).parse_args(words))
    networks = {"untrained": _untrained(arguments.seed), "pre-trained": load_backbone(log_dir / "backbone.safetensors")}
    save_backbone(networks["untrained"], out / "untrained.safetensors")

    print(f"3. the same heads on both networks' features: {NUM_TRAIN} patients to learn from, the others to test on")
    scores = {name: _probed(cache, network, arguments) for name, network in networks.items()}
    tested = [phantom(seed, spacing_mm=RECIPE.spacing_mm) for seed in range(NUM_TRAIN, LABELLED.count)]
    pairs = [bent_pair(prepare_hu(patient.volume, RECIPE), arguments.seed + i) for i, patient in enumerate(tested)]
    errors, embeddings = {}, {}
    for name, network in networks.items():
        found = [matching_errors(pair, network, seed=arguments.seed + i) for i, pair in enumerate(pairs)]
        errors[name] = np.concatenate([distances for distances, _ in found])
        embeddings[name] = found[0][1]
    tables = [
        _table(scores, errors),
        landmark_table(landmark_errors(tested, networks, RECIPE), within_mm=WITHIN_MM),
    ]
    for header, rows in tables:
        print(f"\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
        for row in rows:
            print(f"| {' | '.join(row)} |")

    command, losses = "vox2vec pretrain " + " ".join(words), _losses(log_dir)
    report = _report(arguments, command, tables, losses, scores, embeddings)
    report.write(out / "report.html")
    print(f"\nPictures and figures: {out / 'report.html'}; the network: {log_dir / 'backbone.safetensors'}")
    return 0


def _pretraining(arguments: argparse.Namespace, log_dir: Path) -> list[str]:
    """The words after `vox2vec pretrain`."""
    words = ["--cache_dir", str(arguments.output / "cache"), "--log_dir", str(log_dir)]
    words += ["--spacing", *(f"{s:g}" for s in RECIPE.spacing_mm), "--patch_size", *map(str, RECIPE.patch_size)]
    words += [word for name, value in NETWORK.items() for word in (f"--{name}", str(value))]
    words += ["--batch_size", "8", "--patches_per_volume", "4", "--max_num_voxels", "256"]
    words += ["--optimizer", "adamw", "--lr", "0.004", "--warmup_steps", "20", "--monitor_every", "0"]
    words += ["--max_steps", str(arguments.max_steps), "--num_workers", "0", "--seed", str(arguments.seed)]
    return [*words, "--resume"] if (log_dir / "last.ckpt").exists() else words


def _untrained(seed: int) -> FPN3d:
    """What pre-training began with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = FPN3d(**NETWORK).eval()
    backbone.recipe = RECIPE
    return backbone


def _probed(cache: Cache, backbone: FPN3d, arguments: argparse.Namespace) -> _Scores:
    """Dice on whole test patients; the same start, patches and steps for every backbone."""
    by_id = {entry.id: entry for entry in cache.entries() if "labels" in entry.files}
    entries = [by_id[id] for id in LABELLED.ids]
    probe = OnlineProbe(
        cache,
        entries[:NUM_TRAIN],
        entries[NUM_TRAIN:],
        BTCV_ORGANS,
        batch_size=4,
        learning_rate=_PROBE_LR,
        seed=arguments.seed,
    )
    probe.start(backbone)
    for _ in tqdm(range(arguments.probe_steps), desc="heads", unit="step", disable=None):
        probe.train_heads(backbone)
    return probe.judge(backbone)


def _table(scores: Mapping[str, _Scores], errors: Mapping[str, np.ndarray]) -> tuple[list[str], list[list[str]]]:
    header = ["features", "linear head, Dice", "non-linear head, Dice", "points: median error", "within 10 mm"]
    rows = [
        [
            name,
            *(f"{scores[name][head].get('dice', float('nan')):.3f}" for head in ("linear", "nonlinear")),
            f"{np.median(found):.1f} mm",
            f"{recall(found, within_mm=WITHIN_MM):.0%}",
        ]
        for name, found in errors.items()
    ]
    return header, rows


def _report(
    arguments: argparse.Namespace,
    command: str,
    both_tables: list[tuple[list[str], list[list[str]]]],
    losses: tuple[list[int], list[float]],
    scores: Mapping[str, _Scores],
    embeddings: Mapping[str, Embedding],
) -> Report:
    report = Report("vox2vec on synthetic patients")
    report.text(
        f"A small network learned from {LEARNED_FROM.count} synthetic CTs without labels, in {arguments.max_steps} "
        f"steps. It is compared with itself before the first step, on {LABELLED.count} other patients: heads learned "
        f"from {NUM_TRAIN} and are judged on the other {LABELLED.count - NUM_TRAIN}, with the same start, patches and "
        f"{arguments.probe_steps} steps for both. Points are found again in bent, noisy copies of the test patients. "
        "A structure that a head finds nowhere has Dice 0. Synthetic patients are easier than real ones, and the "
        "training is short: the difference counts, not the numbers."
    )
    features_table, landmarks_table = both_tables
    report.table(*features_table)
    report.text(
        "Named landmarks of each test patient, such as the carina, looked for in each other test patient: by the "
        "features, and by normalised cross-correlation of intensity patches of several radii, the naive way."
    )
    report.table(*landmarks_table)
    report.code(command)
    for head, title in (("linear", "Linear head"), ("nonlinear", "Non-linear head")):
        tables = {name: {k: v for k, v in of_heads[head].items() if k != "dice"} for name, of_heads in scores.items()}
        report.figure(dice_figure(tables, title=f"{title}: Dice on test patients"), f"{title}, each organ.")
    report.figure(loss_figure(*losses, title="Pre-training"), "InfoNCE of both views' voxels.")
    patient: Phantom = phantom(NUM_TRAIN, spacing_mm=(2.0, 2.0, 3.0))
    liver = patient.landmarks["liver"]
    report.heading("A test patient")
    report.figure(slices_figure(patient.volume, point_mm=liver), "Slices through the liver, 2x2x3 mm.")
    for name, embedding in embeddings.items():
        report.figure(
            pca_figure(embedding, patient.volume, levels=None, point_mm=liver, title=f"{name}: principal components"),
            f"The first three principal components of the {name} features, as colours.",
        )
        report.figure(
            similarity_figure(embedding, patient.volume, liver, title=f"{name}: similarity with the marked voxel"),
            f"Cosine similarity of the {name} features with those of the voxel in the liver.",
        )
    return report


def _losses(log_dir: Path) -> tuple[list[int], list[float]]:
    steps, losses = [], []
    for path in sorted((log_dir / "csv").glob("version_*/metrics.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                if row.get("train/loss"):
                    steps.append(int(row["step"]))
                    losses.append(float(row["train/loss"]))
    return steps, losses
