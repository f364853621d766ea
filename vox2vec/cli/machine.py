"""The arguments that say on what to compute, shared by the commands that train."""

import argparse
from typing import Any

from vox2vec.training import machine


def add_machine_arguments(group: Any) -> None:
    """Accelerator and precision."""
    group.add_argument("--accelerator", default="auto", help="auto, cpu, gpu, mps (default: auto, the fastest)")
    group.add_argument(
        "--precision",
        choices=("32", "bf16", "16"),
        help="(default: bf16 on a GPU that computes in it, half the memory; else 32, exact everywhere)",
    )


def precision_of(arguments: argparse.Namespace) -> Any:
    """As Lightning names it."""
    return machine.precision_of(arguments.precision, arguments.accelerator)
