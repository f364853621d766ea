"""InfoNCE in blocks against the matrix of all similarities: time, and peak memory of a process of its own.

Then the two objectives side by side.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.memory import peak_gib
from benchmarks.timing import seconds_of
from vox2vec import FPN3d
from vox2vec.losses.contrastive import info_nce
from vox2vec.training.pretraining import Pretraining

RELEASED, LARGE, SMALL = 10_240, 65_536, 2_048  # voxels; those of a batch of the small network's pre-training
WIDTH = 128


def rows() -> Iterator[tuple[str, ...]]:
    ours_s, dense_s = seconds_of(lambda: backward(info_nce, RELEASED), lambda: backward(dense, RELEASED), rounds=2)
    idle, ours, theirs = (_peak_gib(name, RELEASED) for name in ("nothing", "info_nce", "dense"))
    yield (
        f"InfoNCE of {RELEASED} voxels, width {WIDTH}, forward and backward",
        f"{ours_s:.1f} s, {ours - idle:.2f} GiB",
        f"dense {dense_s:.1f} s, {theirs - idle:.2f} GiB",
        f"{dense_s / ours_s:.1f}x faster, {(theirs - idle) / (ours - idle):.0f}x less memory",
    )
    yield f"InfoNCE of {LARGE} voxels", f"{_peak_gib('info_nce', LARGE) - idle:.2f} GiB", "", ""
    contrastive_s, narrow_s, wide_s = seconds_of(
        objective("contrastive"), objective("vicreg", expander_width=512), objective("vicreg", expander_width=2048)
    )
    yield (
        f"small network, projector and InfoNCE of {SMALL} voxels, forward and backward",
        f"{contrastive_s:.2f} s",
        f"VICReg, expander of 512 {narrow_s:.2f} s, of 2048 {wide_s:.2f} s",
        f"{narrow_s / contrastive_s:.1f}x, {wide_s / contrastive_s:.1f}x as long",
    )


def objective(name: str, **options) -> Callable[[], None]:
    """What stands behind the small network while it trains: projector or expander, and the loss, in bfloat16."""
    module = Pretraining(FPN3d(base_channels=8, num_scales=4), objective=name, **options)
    vectors = [torch.randn(SMALL, sum(module.backbone.channels)) for _ in range(2)]

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            first, second = (module.proj_head(view) for view in vectors)
            module.loss_of((first, second)).backward()

    return step


def dense(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """The plain way: one matrix."""
    z = torch.cat([a, b])
    logits = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(a)))


def nothing(a: Tensor, b: Tensor) -> Tensor:
    return a.sum() + b.sum()


def backward(loss, voxels: int) -> None:
    a, b = (F.normalize(torch.randn(voxels, WIDTH), dim=1).requires_grad_() for _ in range(2))
    loss(a, b).backward()


def _peak_gib(name: str, voxels: int) -> float:
    command = [sys.executable, "-m", "benchmarks.losses", name, str(voxels)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    backward({"nothing": nothing, "info_nce": info_nce, "dense": dense}[sys.argv[1]], int(sys.argv[2]))
    print(peak_gib())
