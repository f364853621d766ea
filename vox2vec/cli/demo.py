"""`vox2vec demo`: the whole story on synthetic patients, offline: cache, pre-training, probes, pictures, a report."""

import argparse
import logging
from pathlib import Path
from typing import Any

from vox2vec.evaluation.demo import demo


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec demo`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo",
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
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    asked = {name: getattr(arguments, name) for name in ("seed", "max_steps", "probe_steps")}
    told = demo(arguments.output, **asked, say=print)
    print(f"\nPictures and figures: {told.report}; the network: {told.weights}")
    return 0
