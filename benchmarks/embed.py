"""Embedding a whole volume: its overhead over the bare network, the CPU's fast path, and the peak of memory."""

import time
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.memory import peak_of
from benchmarks.timing import seconds_of
from vox2vec.inference.embed import embed
from vox2vec.inference.runner import backbone_runner, relative_error
from vox2vec.inference.windows import Windows
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.pretrained import vox2vec_small
from vox2vec.recipe import PAPER
from vox2vec.volume import Volume

SHAPE = (350, 300, 200)  # docs/method.md section 5: 240 windows
CPU = torch.device("cpu")


def torso(shape: tuple[int, int, int] = SHAPE) -> Volume:
    """A body that fills the prepared grid of `shape`, so that every window is computed."""
    image = np.random.default_rng(0).integers(-200, 300, shape).astype(np.int16)
    return Volume(image, np.diag([1.0, 1, 2, 1]))


def rows() -> Iterator[tuple[str, ...]]:
    torch.manual_seed(0)
    backbone = FPN3d().eval()
    patch = torch.rand(1, 1, *PAPER.patch_size)
    exact = backbone_runner(backbone, patch, device=CPU, precision="32")
    fast = backbone_runner(backbone, patch, device=CPU, precision="bf16")
    start = time.perf_counter()
    compiled = backbone_runner(backbone, patch, device=CPU, precision="bf16", compiled=True)
    compile_s = time.perf_counter() - start
    with torch.inference_mode():
        exact_s, fast_s, compiled_s = seconds_of(*(lambda run=run: run(patch) for run in (exact, fast, compiled)))
    for name, run, seconds in (("bfloat16", fast, fast_s), ("bfloat16, compiled", compiled, compiled_s)):
        yield (
            f"one window, {name}",
            f"{seconds:.3f} s",
            f"float32 {exact_s:.3f} s",
            (f"{exact_s / seconds:.1f}x faster, relative error {relative_error(run, exact, patch):.2%}"),
        )
    pays = f"pays from {compile_s / (fast_s - compiled_s):.0f} windows" if compiled_s < fast_s else "never pays"
    yield "compiling", f"{compile_s:.0f} s", "uncompiled bfloat16", pays
    yield from _whole_volume(backbone, patch)
    yield _small_network()
    yield _peak_memory()


def _whole_volume(backbone: FPN3d, patch: torch.Tensor) -> Iterator[tuple[str, ...]]:
    scan = torso((256, 192, 96))
    windows = np.prod([len(s) for s in Windows.over(scan.shape, PAPER.patch_size).starts])
    for precision in ("32", "bf16"):
        run = backbone_runner(backbone, patch, device=CPU, precision=precision)

        def bare(run=run):
            with torch.inference_mode():
                run(patch)

        def whole(precision=precision):
            embed(scan, backbone, device="cpu", precision=precision, progress=False)

        bare_s, whole_s = seconds_of(bare, whole, rounds=1)
        yield (
            f"embed {windows} windows, {precision}",
            f"{whole_s / windows:.3f} s a window",
            (f"the bare network {bare_s:.3f} s"),
            f"{whole_s / windows / bare_s:.2f} times the network",
        )


def _small_network() -> tuple[str, ...]:
    """The network that ships with the package, on the grid of a 3 mm abdomen."""
    backbone, scan = vox2vec_small(), Volume(torso((128, 128, 160)).image, np.diag([3.0, 3, 3, 1]))
    windows = np.prod([len(s) for s in Windows.over(scan.shape, backbone.recipe.patch_size).starts])
    ours, single = seconds_of(
        lambda: embed(scan, backbone, device="cpu", progress=False),
        lambda: embed(scan, backbone, device="cpu", progress=False, batch_size=1),
        rounds=1,
    )
    return (
        f"embed 128x128x160 at 3 mm, small network, {windows} windows",
        f"{ours:.1f} s",
        f"one window at a time {single:.1f} s",
        f"{single / ours:.1f}x faster",
    )


def _peak_memory() -> tuple[str, ...]:
    """Of a fresh process that embeds the volume, over what it holds before."""
    seconds, peak = peak_of(
        "from benchmarks.embed import torso; from vox2vec import FPN3d, embed",
        "embed(torso(), FPN3d().eval(), device='cpu', progress=False)",
    )
    return f"embed {'x'.join(map(str, SHAPE))}", seconds, "", peak
