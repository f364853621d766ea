"""The study: what the small model is worth on real CTs, beside random weights and training from scratch.

python -m benchmarks.study ../shared/data --work DIR [--seeds 0 1 2] [--only knn atlas probing fine-tuning from_scratch
    torso copies pair]

(a) Segmentation by `evaluate`: OpenKBP's labelled patients with 1, 4, 16 and all scans to learn from, seed s tested
on fold s; and the two torso scans one way and the other, over the structures that both hold. (b) The lung pair's
landmarks, with normalised cross-correlation beside. (c) Points found again in bent copies of single scans, without
labels. Each finished piece stays in the work folder, so that a killed study goes on. The report is written from what
is there, also by `--only report`: benchmarks/STUDY.md and its figures. A seed takes hours on two cores.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import RADII_MM, landmarks_of, untrained
from benchmarks.study_report import NOT_FOUND_MM, report
from vox2vec import PAPER, evaluate, load_backbone, load_volume, vox2vec_small
from vox2vec.data.sources.labelled import labelled_data, read_names
from vox2vec.data.sources.own import own_data
from vox2vec.data.splits import Split, published_split
from vox2vec.evaluation.atlas_fold import Carrying
from vox2vec.evaluation.finders import by_correlation, by_features
from vox2vec.evaluation.fold import Protocol
from vox2vec.evaluation.nearest_fold import Neighbours
from vox2vec.matching.deformation import bent_pair
from vox2vec.matching.recovery import matching_errors
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.fresh import fresh_backbone
from vox2vec.preprocessing.prepare import prepare_hu

SIZES = (1, 4, 16, None)  # scans to learn from; None: all of a fold
UNTRAINED_SIZES = {"knn": (1, 2, 4, 16, None), "atlas": (1, 2, 4)}  # of 16 atlases each scan takes minutes
COPIED = 4  # test patients of a fold whose bent copies are looked at
SETUPS = ("knn", "atlas", "probing", "fine-tuning", "from_scratch")
PARTS = (*SETUPS, "torso", "copies", "pair", "report")
FRESH = replace(PAPER, spacing_mm=(3.0, 3.0, 3.0), patch_size=(32, 32, 32))
_TRAINED = {"epochs": 3, "batches_per_epoch": 100, "schedule": "cosine"}
STEPS = {  # of 7 patches; the same for every number of scans
    "probing": {"learning_rate": 3e-2},
    "fine-tuning": {"learning_rate": 3e-3, "frozen_epochs": 1, "backbone_learning_rate": 3e-3},
    "from_scratch": {"learning_rate": 3e-3},
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
        for name, options in _evaluations(data, work, seed, arguments.only):
            _evaluate(name, options, work)
        for name, measure in (("copies", _copies), ("pair", _pair)):
            if name in arguments.only:
                _measured(work / f"{name}_seed{seed}.json", lambda m=measure, s=seed: m(data, work, s))
    report(work)


def _evaluations(data: Path, work: Path, seed: int, parts: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A name and the arguments of `evaluate` for each run of a seed."""
    setups = [setup for setup in SETUPS if setup in parts]
    if setups:
        openkbp = labelled_data(data / "openkbp" / "labelled", names=data / "openkbp" / "names.json")
        folds = {"source": openkbp, "split": str(seed), "num_val": 0}
    for setup in setups:
        for size in UNTRAINED_SIZES.get(setup, SIZES):
            for weights in _weights_of(setup):
                run = {**_options(setup, weights, work, seed), **folds, "train_size": size}
                yield f"openkbp/{setup}_{weights}_{size or 'all'}_seed{seed}", run
    if "torso" in parts:
        both = _torso(data)
        for setup in SETUPS:
            for weights in _weights_of(setup):
                yield f"torso/{setup}_{weights}_seed{seed}", {**_options(setup, weights, work, seed), **both}


def _weights_of(setup: str) -> tuple[str, ...]:
    one = {"atlas": ("small",), "fine-tuning": ("small",), "from_scratch": ("none",)}
    return one.get(setup, ("random", "small"))


def _options(setup: str, weights: str, work: Path, seed: int) -> dict[str, Any]:
    fresh = fresh_backbone(seed, base_channels=8, num_scales=4, recipe=FRESH)
    backbone = vox2vec_small() if weights == "small" else fresh
    told = {"small": "small", "random": "random", "none": "fresh"}[weights]
    measured = {"seed": seed, "fresh": weights == "random"}
    protocol: Protocol | Neighbours | Carrying
    if setup in ("knn", "atlas"):
        protocol = (Neighbours if setup == "knn" else Carrying)(precision="bf16", **measured)
    else:
        protocol = Protocol.of(setup, precision="bf16-mixed", **_TRAINED, **STEPS[setup], **measured)
    cache = work / "cache"
    return {"backbone": backbone, "cache": cache, "setup": setup, "protocol": protocol, "weights": told}


def _torso(data: Path) -> dict[str, Any]:
    """The structures that both scans hold, and who is learned from."""
    source = labelled_data(data / "labelled")
    numbers = set.intersection(*(set(np.unique(source.labels(id).image).tolist()) for id in source.ids))
    names = {n: name for n, name in read_names(data / "labelled" / "names.json").items() if n in numbers}
    abdomen, chest = sorted(source.ids, key=lambda id: "LIDC" in id)
    splits = {
        "chest_to_abdomen": Split((chest,), (), (abdomen,)),
        "abdomen_to_chest": Split((abdomen,), (), (chest,)),
    }
    return {"source": replace(source, label_names=names), "splits": splits}


def _evaluate(name: str, options: dict[str, Any], work: Path) -> None:
    """A failed run is told and left for the next time."""
    if (work / name / "results.json").exists():
        return
    print(f"\n## {name}", flush=True)
    try:
        evaluate(log_dir=work / name, say=print, warn=print, **options)
    except (ValueError, OSError) as error:
        print(f"{name}: {error}; going on", flush=True)


def _measured(path: Path, measure: Callable[[], dict[str, list[float]]]) -> None:
    if path.exists():
        return
    print(f"\n## {path.stem}", flush=True)
    told = {name: np.nan_to_num(e, nan=NOT_FOUND_MM, posinf=NOT_FOUND_MM).tolist() for name, e in measure().items()}
    path.write_text(json.dumps(told), encoding="utf-8")


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
