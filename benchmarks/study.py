"""The study: what the small model is worth on real CTs, beside random weights and training from scratch.

python -m benchmarks.study ../shared/data --work DIR [--seeds 0 1 2] [--only knn probing fine-tuning from_scratch torso
    copies pair]

(a) Segmentation by `vox2vec eval`: OpenKBP's labelled patients with 1, 4, 16 and all scans to learn from, seed s tested
on fold s; and the two torso scans one way and the other, over the structures that both hold. (b) The lung pair's
landmarks, with normalised cross-correlation beside. (c) Points found again in bent copies of single scans, without
labels. Each finished piece stays in the work folder, so that a killed study goes on. The report is written from what
is there, also by `--only report`: benchmarks/STUDY.md and its figures. A seed takes hours on two cores.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.accuracy import RADII_MM, by_correlation, by_features, landmarks_of, untrained
from benchmarks.study_report import NOT_FOUND_MM, report
from vox2vec import load_backbone, load_volume, vox2vec_small
from vox2vec.cli.main import main as vox2vec
from vox2vec.data.sources.own import own_data
from vox2vec.data.splits import published_split
from vox2vec.matching.deformation import bent_pair
from vox2vec.matching.recovery import matching_errors
from vox2vec.nn.fpn import FPN3d
from vox2vec.preprocessing.prepare import prepare_hu

SIZES = (1, 4, 16, None)  # scans to learn from; None: all of a fold
KNN_SIZES = (1, 2, 4, 16, None)
COPIED = 4  # test patients of a fold whose bent copies are looked at
SETUPS = ("knn", "probing", "fine-tuning", "from_scratch")
PARTS = (*SETUPS, "torso", "copies", "pair", "report")
FRESH = ["--base_channels", "8", "--num_scales", "4", "--spacing", "3", "3", "3", "--patch_size", "32", "32", "32"]
_TRAINED = ["--epochs", "3", "--num_batches_per_epoch", "100", "--schedule", "cosine"]
STEPS = {  # of 7 patches; the same for every number of scans
    "probing": [*_TRAINED, "--lr", "3e-2"],
    "fine-tuning": [*_TRAINED, "--lr", "3e-3", "--freeze_epochs", "1", "--backbone_lr", "3e-3"],
    "from_scratch": [*_TRAINED, "--lr", "3e-3"],
    "knn": [],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="../shared/data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    data, work = arguments.data, arguments.work
    work.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        for name, words in _evaluations(data, work, seed, arguments.only):
            _evaluate(name, words, work)
        for name, measure in (("copies", _copies), ("pair", _pair)):
            if name in arguments.only:
                _measured(work / f"{name}_seed{seed}.json", lambda m=measure, s=seed: m(data, work, s))
    report(work)


def _evaluations(data: Path, work: Path, seed: int, parts: list[str]) -> Iterator[tuple[str, list[str]]]:
    """A name and the arguments of `vox2vec eval` for each run of a seed."""
    labelled = data / "openkbp" / "labelled"
    for setup in SETUPS:
        for size in KNN_SIZES if setup == "knn" else SIZES:
            for weights in _weights_of(setup):
                words = [*_words(setup, weights, labelled, work, seed), "--names", str(data / "openkbp" / "names.json")]
                words += ["--split", str(seed), "--num_val_scans", "0"]
                if setup in parts:
                    yield (
                        f"openkbp/{setup}_{weights}_{size or 'all'}_seed{seed}",
                        words + (["--train_size", str(size)] if size else []),
                    )
    if "torso" in parts:
        names, splits = _torso(data, work)
        for setup in SETUPS:
            for weights in _weights_of(setup):
                words = [*_words(setup, weights, data / "labelled", work, seed), "--names", str(names)]
                yield f"torso/{setup}_{weights}_seed{seed}", [*words, "--splits_file", str(splits), "--split", "all"]


def _weights_of(setup: str) -> tuple[str, ...]:
    return {"fine-tuning": ("small",), "from_scratch": ("none",)}.get(setup, ("random", "small"))


def _words(setup: str, weights: str, labelled: Path, work: Path, seed: int) -> list[str]:
    words = ["eval", "--dataset", "folder", "--images_dir", str(labelled), "--cache_dir", str(work / "cache")]
    words += ["--setup", setup, "--seed", str(seed), "--num_workers", "0", "--precision", "bf16", *STEPS[setup]]
    if weights == "small":
        return [*words, "--ckpt", "small"]
    return words + (["--ckpt", "random"] if weights == "random" else []) + FRESH


def _torso(data: Path, work: Path) -> tuple[Path, Path]:
    """The structures that both scans hold, and who is learned from."""
    source = own_data(data / "labelled").with_labels_only()
    numbers = set.intersection(*(set(np.unique(source.labels(id).image).tolist()) for id in source.ids))
    all_names = json.loads((data / "labelled" / "names.json").read_text())
    names, splits = work / "torso_names.json", work / "torso_splits.json"
    names.write_text(json.dumps({n: name for n, name in all_names.items() if int(n) in numbers}))
    abdomen, chest = sorted(source.ids, key=lambda id: "LIDC" in id)
    split = {
        "chest_to_abdomen": {"train": [chest], "val": [], "test": [abdomen]},
        "abdomen_to_chest": {"train": [abdomen], "val": [], "test": [chest]},
    }
    splits.write_text(json.dumps(split))
    return names, splits


def _evaluate(name: str, words: list[str], work: Path) -> None:
    """A failed run is told and left for the next time."""
    if (work / name / "results.json").exists():
        return
    print(f"\n## {name}", flush=True)
    code = vox2vec([*words, "--log_dir", str(work / name)])
    if code:
        print(f"{name} ended with {code}, going on", flush=True)


def _measured(path: Path, measure: Callable[[], dict[str, list[float]]]) -> None:
    if path.exists():
        return
    print(f"\n## {path.stem}", flush=True)
    told = {name: np.nan_to_num(e, nan=NOT_FOUND_MM, posinf=NOT_FOUND_MM).tolist() for name, e in measure().items()}
    path.write_text(json.dumps(told))


def _networks(work: Path, seed: int) -> dict[str, FPN3d]:
    """Untrained, small, and those that a seed's segmentation of all scans has left."""
    small = vox2vec_small()
    networks = {"random": untrained(small, seed), "small": small}
    for name, run in (("small, fine-tuned", "fine-tuning_small"), ("from scratch", "from_scratch_none")):
        path = work / "openkbp" / f"{run}_all_seed{seed}" / f"fold_{seed}" / "backbone.safetensors"
        if path.is_file():
            networks[name] = load_backbone(path)
    return networks


def _copies(data: Path, work: Path, seed: int) -> dict[str, list[float]]:
    """Errors in mm, by "network: scan"."""
    kbp = own_data(data / "openkbp" / "labelled").with_labels_only()
    scans = {id: kbp.load(id) for id in published_split(list(kbp.ids), seed, num_val=0).test[:COPIED]}
    torso = own_data(data / "labelled").with_labels_only()
    scans |= {id: torso.load(id) for id in torso.ids}
    scans["lung_baseline"] = load_volume(data / "pairs" / "lung_baseline.mha")
    networks = _networks(work, seed)
    errors: dict[str, list[float]] = {}
    for id, scan in scans.items():
        pair = bent_pair(prepare_hu(scan, networks["small"].recipe), seed)
        for name, network in networks.items():
            found, _ = matching_errors(pair, network, seed=seed)
            errors[f"{name}: {id}"] = found.tolist()
    return errors


def _pair(data: Path, work: Path, seed: int) -> dict[str, list[float]]:
    """Errors in mm at the lung pair's landmarks, by method."""
    source, target = (load_volume(data / "pairs" / f"lung_{time}.mha") for time in ("baseline", "followup"))
    points, truth = landmarks_of(data / "pairs" / "lung_landmarks_LPS.csv")
    networks = _networks(work, seed)
    finders = {name: by_features(network) for name, network in networks.items()}
    if seed == 0:  # no chance in it
        recipe = networks["small"].recipe
        finders |= {f"correlation, {r:.0f} mm": by_correlation(recipe, r) for r in RADII_MM}
    return {
        name: np.linalg.norm(find(source, points, target) - truth, axis=1).tolist() for name, find in finders.items()
    }


if __name__ == "__main__":
    main()
