"""Registration on every pair of ../shared/data: SimpleITK, elastix, convexAdam and ours, in one run.

python -m benchmarks.register ../shared/data --work DIR [--ways simpleitk field ...] [--pairs lung OpenKBP ...]
    [--limit_s 900] [--threads 1] [--report]

Each way takes each pair in a process of its own with a time limit; what it finds is a line of DIR/results.jsonl, so
that an interrupted run goes on, and a line that is taken out is measured again. `--report` only prints the tables of
what is there. Seconds are from two scans in memory to the pair's points (where there are points) and a dense map (where
the way has one), without imports and reading; memory is the most that the process held, libraries included.
Settings of each way are told in benchmarks/registration. `pip install '.[benchmark]'` brings elastix and convexAdam.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.__main__ import machine
from benchmarks.registration.pairs import Pair, pairs_of
from benchmarks.registration.report import FAILED, report

WAYS = {  # to what the reader sees
    "ours.identity": "identity",
    "ours.correlation": "correlation, cubes of 24 mm",
    "by_simpleitk.affine": "SimpleITK, affine",
    "by_simpleitk.bspline_mutual_information": "SimpleITK, affine, then B-spline by mutual information",
    "by_simpleitk.bspline_correlation": "SimpleITK, affine, then B-spline by correlation",
    "by_elastix.default": "elastix, its default maps",
    "by_elastix.par0011": "elastix, lung (Par0011)",
    "by_convex_adam.after_affine": "SimpleITK affine, then convexAdam (MIND)",
    "ours.alone": "match --alone",
    "ours.match": "match",
    "ours.field": "field",
    "ours.register": "register",
}
POINTS_ONLY = ("ours.correlation", "ours.alone", "ours.match")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="../shared/data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--ways", nargs="*", default=[""], help="parts of their names; all by default")
    parser.add_argument("--pairs", nargs="*", default=[""], help="parts of their names or groups; all by default")
    parser.add_argument("--limit_s", type=float, default=900, help="of each process")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="only print the tables of what is there")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    results, pairs = arguments.work / "results.jsonl", pairs_of(arguments.data)
    if not arguments.report:
        ways = [way for way in WAYS if any(part in way for part in arguments.ways)]
        for pair in pairs:
            if any(part in f"{pair.name}, {pair.group}" for part in arguments.pairs):
                for way in ways:
                    added(results, arguments.data, pair, way, arguments.limit_s, arguments.threads)
    torch.set_num_threads(arguments.threads)
    groups = {pair.group: [other.name for other in pairs if other.group == pair.group] for pair in pairs}
    print(f"{machine()}\n\n{report(read(results), groups, WAYS)}")


def added(results: Path, data: Path, pair: Pair, way: str, limit_s: float, threads: int) -> None:
    """Measure a way on a pair in a process of its own and add its line, unless there is one or nothing to measure."""
    asked = way in POINTS_ONLY and pair.truth in ("labels", "none")
    if asked or any((line["pair"], line["way"]) == (pair.name, way) for line in read(results)):
        return
    code = f"from benchmarks.registration.measure import tell; tell({str(data)!r}, {pair.name!r}, {way!r})"
    line: dict[str, Any] = {"pair": pair.name, "way": way, "threads": threads}
    environment = os.environ | dict.fromkeys(_THREADS, str(threads))
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=limit_s
        )
        line |= json.loads(done.stdout.splitlines()[-1]) if not done.returncode else {FAILED: _reason(done.stderr)}
    except subprocess.TimeoutExpired:
        line[FAILED] = f"not done after {limit_s:g} s"
    with results.open("a", encoding="utf-8") as file:
        print(json.dumps(line), file=file)
    print(pair.name, way, {key: line[key] for key in ("seconds", FAILED) if key in line}, flush=True)


def read(results: Path) -> list[Mapping[str, Any]]:
    """The lines that are there."""
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()] if results.exists() else []


def _reason(stderr: str) -> str:
    return (stderr.strip().splitlines() or ["no word why"])[-1]


if __name__ == "__main__":
    main()
