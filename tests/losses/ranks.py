"""A function on several gloo ranks."""

import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def on_ranks(world_size: int, module: str, function: str) -> list[Any]:
    """What `module.function(rank, world_size)` returns on each rank, each a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.losses.ranks", module, function, str(world_size), folder]
        ranks = [subprocess.Popen([*command, str(rank)], cwd=ROOT) for rank in range(world_size)]
        assert [process.wait() for process in ranks] == [0] * world_size
        return [json.loads(Path(folder, f"{rank}.json").read_text(encoding="utf-8")) for rank in range(world_size)]


def _main(module: str, function: str, world_size: str, folder: str, rank: str) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=int(rank), world_size=int(world_size))
    result = getattr(importlib.import_module(module), function)(int(rank), int(world_size))
    Path(folder, f"{rank}.json").write_text(json.dumps(result), encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    _main(*sys.argv[1:])
