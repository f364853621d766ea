"""The whole story on synthetic patients: a network learns without labels, and is compared with what it was before."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from vox2vec.data.cache import Cache
from vox2vec.data.phantom import Phantom, phantom
from vox2vec.data.sources.phantoms import Phantoms
from vox2vec.data.sources.structures import BTCV_ORGANS
from vox2vec.data.warm_up import warm_up
from vox2vec.evaluation.landmarks import landmark_errors, landmark_table
from vox2vec.evaluation.table import markdown
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
from vox2vec.nn.fresh import fresh_backbone
from vox2vec.nn.pretrained import load_backbone
from vox2vec.preprocessing.prepare import prepare_hu
from vox2vec.recipe import Recipe
from vox2vec.training.machine import Machine
from vox2vec.training.online_probe import OnlineProbe
from vox2vec.training.run import pretrain
from vox2vec.training.settings import Method, Network, Schedule, Watch

RECIPE = Recipe(spacing_mm=(5.0, 5.0, 5.0), patch_size=(24, 24, 24))
NETWORK = Network(base_channels=8, num_scales=4)
METHOD = Method(batch_size=8, patches_per_volume=4, max_num_voxels=256)
LEARNED_FROM = Phantoms(32, first=100, spacing_mm=RECIPE.spacing_mm)
LABELLED = Phantoms(8, first=0, spacing_mm=RECIPE.spacing_mm)
NUM_TRAIN = 4  # of the labelled ones; the others are tested on
WITHIN_MM = 10.0
_PROBE_LR = 1e-2  # more than the published 3e-4, for a hundredth of its steps

Table = tuple[list[str], list[list[str]]]  # header and rows
_Scores = dict[str, dict[str, float]]  # head to structure to Dice


class Told(NamedTuple):
    """What a demo leaves: its report, and the weights that it learned."""

    report: Path
    weights: Path


def demo(
    folder: Path, *, seed: int = 0, max_steps: int = 1000, probe_steps: int = 200, say: Callable[[str], None] = print
) -> Told:
    """Cache, pre-train, probe, find points again, draw, report. A pre-training that was stopped goes on.

    Args:
        folder: for the caches, the run, untrained.safetensors and report.html.
        seed: of the networks and of all that is drawn.
        max_steps: of pre-training.
        probe_steps: of the heads.
        say: is told the steps and the tables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    caches = Cache(folder / "cache" / "unlabelled", RECIPE), Cache(folder / "cache" / "labelled", RECIPE)
    say(f"1. {LEARNED_FROM.count + LABELLED.count} synthetic patients into {folder / 'cache'}")
    for cache, source, labels in zip(caches, (LEARNED_FROM, LABELLED), (False, True), strict=True):
        warm_up(cache, [source], labels=labels, num_workers=0)

    say(f"2. pre-training on {LEARNED_FROM.count} of them, without labels")
    log_dir = folder / f"run_seed{seed}_steps{max_steps}"  # whatever ran before with other options
    settings = _settings(seed, max_steps)
    weights = pretrain(caches[0], log_dir, **settings, resume=(log_dir / "last.ckpt").exists(), say=say)
    untrained = fresh_backbone(seed, **vars(NETWORK), recipe=RECIPE)
    save_backbone(untrained, folder / "untrained.safetensors")
    networks = {"untrained": untrained, "pre-trained": load_backbone(weights)}

    say(f"3. the same heads on both networks' features: {NUM_TRAIN} patients to learn from, the others to test on")
    scores = {name: _probed(caches[1], network, probe_steps, seed) for name, network in networks.items()}
    tested = [phantom(i, spacing_mm=RECIPE.spacing_mm) for i in range(NUM_TRAIN, LABELLED.count)]
    errors, embeddings = _found_again(tested, networks, seed)
    landmarks = landmark_table(landmark_errors(tested, networks, RECIPE), within_mm=WITHIN_MM)
    tables = [_table(scores, errors), landmarks]
    for table in tables:
        say(f"\n{markdown(*table)}")
    call = "\n".join(["pretrain(", *(f"    {name}={value!r}," for name, value in settings.items()), ")"])
    report = _report(max_steps, probe_steps, call, tables, _losses(log_dir), scores, embeddings)
    report.write(folder / "report.html")
    return Told(folder / "report.html", weights)


def _settings(seed: int, max_steps: int) -> dict[str, Any]:
    """Of the pre-training."""
    return {
        "network": NETWORK,
        "method": METHOD,
        "schedule": Schedule(lr=0.004, optimizer="adamw", warmup_steps=20, max_steps=max_steps),
        "watch": Watch(monitor_every=0),
        "machine": Machine(num_workers=0),
        "seed": seed,
    }


def _probed(cache: Cache, backbone: FPN3d, steps: int, seed: int) -> _Scores:
    """Dice on whole test patients; the same start, patches and steps for every backbone."""
    by_id = {entry.id: entry for entry in cache.entries()}
    entries = [by_id[id] for id in LABELLED.ids]
    probe = OnlineProbe(
        cache,
        entries[:NUM_TRAIN],
        entries[NUM_TRAIN:],
        BTCV_ORGANS,
        batch_size=4,
        learning_rate=_PROBE_LR,
        seed=seed,
    )
    probe.start(backbone)
    for _ in tqdm(range(steps), desc="heads", unit="step", disable=None):
        probe.train_heads(backbone)
    return probe.judge(backbone)


def _found_again(
    tested: Sequence[Phantom], networks: Mapping[str, FPN3d], seed: int
) -> tuple[dict[str, np.ndarray], dict[str, Embedding]]:
    """Errors in mm of points of the patients in bent copies of them, and the embedding of the first patient."""
    pairs = [bent_pair(prepare_hu(patient.volume, RECIPE), seed + i) for i, patient in enumerate(tested)]
    errors, embeddings = {}, {}
    for name, network in networks.items():
        found = [matching_errors(pair, network, seed=seed + i) for i, pair in enumerate(pairs)]
        errors[name] = np.concatenate([distances for distances, _ in found])
        embeddings[name] = found[0][1]
    return errors, embeddings


def _table(scores: Mapping[str, _Scores], errors: Mapping[str, np.ndarray]) -> Table:
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
    max_steps: int,
    probe_steps: int,
    call: str,
    both_tables: Sequence[Table],
    losses: tuple[list[int], list[float]],
    scores: Mapping[str, _Scores],
    embeddings: Mapping[str, Embedding],
) -> Report:
    report = Report("vox2vec on synthetic patients")
    report.text(
        f"A small network learned from {LEARNED_FROM.count} synthetic CTs without labels, in {max_steps} "
        f"steps. It is compared with itself before the first step, on {LABELLED.count} other patients: heads learned "
        f"from {NUM_TRAIN} and are judged on the other {LABELLED.count - NUM_TRAIN}, with the same start, patches and "
        f"{probe_steps} steps for both. Points are found again in bent, noisy copies of the test patients. "
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
    report.code(call)
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
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row.get("train/loss"):
                    steps.append(int(row["step"]))
                    losses.append(float(row["train/loss"]))
    return steps, losses
