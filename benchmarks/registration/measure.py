"""One way on one pair, with its errors, seconds and memory; run in a process of its own."""

import json
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.memory import peak_gib
from benchmarks.registration.answer import Places, carried, folding, on_cubes
from benchmarks.registration.pairs import Pair, pairs_of
from vox2vec.metrics.overlap import dice
from vox2vec.volume import Volume


def measured(pair: Pair, way: str) -> Mapping[str, Any]:
    """What a way, such as "by_simpleitk.affine", finds on a pair, ready for JSON.

    Seconds and memory are up to the answer: places of the pair's points, and a dense map where the way gives one.

    Raises:
        ModuleNotFoundError: what the way needs is not installed.
    """
    file, _, name = way.rpartition(".")
    function = getattr(import_module(f"benchmarks.registration.{file}"), name)
    fixed, moving = pair.scans
    points, truth = pair.points
    wall, cpu = time.perf_counter(), time.process_time()
    answer = function(fixed, moving, pair.spacing_mm)
    found = answer.points(points) if len(points) else points
    places = answer.dense() if answer.dense else None
    told: dict[str, Any] = {"seconds": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    told["gib"] = peak_gib()
    if len(points):
        told["errors_mm"] = np.nan_to_num(np.linalg.norm(found - truth, axis=1), nan=np.inf).tolist()
    if places is not None:
        told["folding"] = folding(places, on_cubes(fixed, pair.spacing_mm))
    if pair.truth == "labels" and places is not None:
        told["dice"] = _dice(places, *pair.labels)
    return told


def tell(data: str, pair: str, way: str) -> None:
    """Print what `measured` says of the pair of that name, as JSON."""
    (chosen,) = (one for one in pairs_of(Path(data)) if one.name == pair)
    print(json.dumps(measured(chosen, way)))


def _dice(places: Places, fixed: Volume, moving: Volume) -> dict[str, float]:
    """Of the structures that both hold, by number."""
    found = carried(places, moving, fixed)
    both = np.intersect1d(np.unique(fixed.image), np.unique(moving.image))
    return {str(n): dice(found == n, fixed.image == n) for n in both if n}
