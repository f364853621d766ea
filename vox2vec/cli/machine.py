"""The arguments that say on what to compute, shared by the commands that train."""

import argparse
from typing import Any

import torch


def add_machine_arguments(group: Any) -> None:
    """Accelerator and precision."""
    group.add_argument("--accelerator", default="auto", help="auto, cpu, gpu, mps (default: auto, the fastest)")
    group.add_argument(
        "--precision",
        choices=("32", "bf16", "16"),
        help="(default: bf16 on a GPU that has it, half the memory; else 32, exact everywhere)",
    )


def precision_of(arguments: argparse.Namespace) -> Any:
    """As Lightning names it."""
    if arguments.precision is not None:
        return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[arguments.precision]
    on_gpu = arguments.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported() else "32-true"
