"""`python -m benchmarks.gpu`: everything that only a GPU can tell, one table, within 8 minutes.

First bfloat16 Conv3d is checked against float32. Then the released batch (10 pairs of 128x128x32, 1,024 voxels) is
trained on in the plain way (float32, contiguous, one matrix of all similarities), by our default (bfloat16, channels
last, the loss in blocks), compiled, and in micro-batches; each step's arithmetic stands beside the card's measured
matrix rate and copy bandwidth. Then the loader, embedding, and the loss alone.
"""

import argparse
import copy
import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from benchmarks.losses import backward, dense
from vox2vec.data.cache import Cache
from vox2vec.data.datasets import BatchOrder, PairBatch, PairBatches, one_thread
from vox2vec.data.sources.phantoms import Phantoms
from vox2vec.data.warm_up import warm_up
from vox2vec.evaluation.table import markdown_head, markdown_row
from vox2vec.inference.embed import embed
from vox2vec.losses.contrastive import info_nce
from vox2vec.nn.fpn import FPN3d
from vox2vec.training.pretraining import Pretraining
from vox2vec.volume import Volume

LIMIT_S = 480.0
PATCH_GFLOP = 343.0  # of the released network on 128x128x32, forward and backward
GIB = 2**30
Row = tuple[str, str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that the script runs")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --device cpu --tiny tries the script out")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{time.strftime('%Y-%m-%d')}, {name}, torch {torch.__version__}\n")
    print(markdown_head(["what", "figure", "note"]))
    for row in rows(device, tiny=arguments.tiny):
        print(markdown_row(row), flush=True)


def rows(device: torch.device, *, tiny: bool = False) -> Iterator[Row]:
    """The table, part by part; a part that fails is a row that says so, and none begins after the limit."""
    started = time.perf_counter()
    parts: list[Callable[[torch.device, bool], Iterator[Row]]] = [_correct, _limits, _steps, _loss, _embed, _loader]
    for part in parts:
        if time.perf_counter() - started > LIMIT_S - 60:
            yield part.__name__.strip("_"), "left out", "the time is over"
            continue
        try:
            yield from part(device, tiny)
        except (RuntimeError, ValueError, OSError) as error:
            yield part.__name__.strip("_"), "failed", " ".join(str(error).split())[:300]
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _correct(device: torch.device, tiny: bool) -> Iterator[Row]:
    """Whether bfloat16 Conv3d computes what float32 does: some builds of torch did not."""
    torch.manual_seed(0)
    layer, patches = nn.Conv3d(16, 16, 3, padding=1).to(device), torch.randn(2, 16, 32, 32, 32, device=device)
    for name, layout in (("contiguous", torch.contiguous_format), ("channels last", torch.channels_last_3d)):
        one = copy.deepcopy(layer).to(memory_format=layout)
        exact = one(patches)
        with torch.autocast(device.type, torch.bfloat16):
            fast = one(patches.to(memory_format=layout)).float()
        error = float(((fast - exact).norm() / exact.norm()).detach())
        yield f"bfloat16 Conv3d, {name}", f"relative error {error:.2%}", "ok" if error < 0.02 else "WRONG"


def _limits(device: torch.device, tiny: bool) -> Iterator[Row]:
    size = 256 if tiny else 8192
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        seconds = _seconds(lambda a=a, b=b: a @ b, device)
        yield f"matrix rate, {str(dtype)[6:]}", f"{2 * size**3 / seconds / 1e12:.1f} TFLOP/s", f"{size}x{size}"
    block = torch.empty((1 if tiny else 1024) * 2**20, dtype=torch.uint8, device=device)
    seconds = _seconds(block.clone, device)
    yield "copy bandwidth", f"{2 * block.numel() / seconds / 1e9:.0f} GB/s", "read and write"


def _steps(device: torch.device, tiny: bool) -> Iterator[Row]:
    """Steps a second and peak memory; the plain way first, the others as ratios to it."""
    ways = {
        "plain: float32, contiguous, dense loss": {"loss": dense, "channels_last": False},
        "float32, channels last, loss in blocks": {},
        "our default: bfloat16, channels last, loss in blocks": {"bf16": True},
        "the same, micro-batches of 2 pairs": {"bf16": True, "micro_batch_size": 2},
        "the same, compiled": {"bf16": True, "compiled": not tiny},
    }
    plain = None
    for name, options in ways.items():
        try:
            rate, peak = _step_rate(device, tiny, **options)
        except torch.cuda.OutOfMemoryError:
            yield f"step, {name}", "out of memory", ""
            continue
        plain = plain or (rate, peak)
        arithmetic = rate * 20 * PATCH_GFLOP / 1e3
        note = f"{rate / plain[0]:.2f} times the plain way's steps, {peak / max(plain[1], 1e-9):.0%} of its memory"
        if not tiny:
            note += f"; {arithmetic:.1f} TFLOP/s"
        yield f"step, {name}", f"{rate:.2f} steps/s, {peak:.1f} GiB", note


def _step_rate(
    device: torch.device,
    tiny: bool,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = info_nce,
    channels_last: bool = True,
    bf16: bool = False,
    compiled: bool = False,
    micro_batch_size: int | None = None,
) -> tuple[float, float]:
    torch.manual_seed(0)
    module = Pretraining(
        FPN3d(base_channels=4 if tiny else 16, num_scales=3 if tiny else 6),
        channels_last=channels_last,
        micro_batch_size=micro_batch_size,
    ).to(device)
    module._loss = lambda a, b: loss(F.normalize(a, dim=1), F.normalize(b, dim=1))
    if compiled:
        module.backbone.compile()
    batch, optimizer = _random_batch(device, tiny), torch.optim.Adam(module.parameters())

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            value = module.loss_of(module.embedded(batch)[1])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    if device.type == "cuda":
        torch.cuda.empty_cache()
    step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = _seconds(step, device, rounds=2 if tiny else 8)
    return 1 / seconds, torch.cuda.max_memory_allocated(device) / GIB if device.type == "cuda" else 0.0


def _random_batch(device: torch.device, tiny: bool) -> PairBatch:
    n, size, voxels = (4, (16, 16, 8), 50) if tiny else (10, (128, 128, 32), 1024)
    patches = torch.randint(-1000, 500, (2, n, 1, *size), dtype=torch.int16, device=device)
    places = [torch.stack([torch.randint(s, (2, voxels)) for s in size], dim=-1).to(device) for _ in range(n)]
    return PairBatch(patches, places, ["random"] * n, 0)


def _loss(device: torch.device, tiny: bool) -> Iterator[Row]:
    for voxels in (100, 200) if tiny else (10_240, 40_960, 163_840):
        ways = {"in blocks of 1024": info_nce, "in blocks of 8192": functools.partial(info_nce, chunk=8192)}
        if voxels <= 10_240:
            ways["dense"] = dense
        for name, loss in ways.items():
            with torch.device(device):
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(device)
                seconds = _seconds(functools.partial(backward, loss, voxels), device, rounds=1)
            peak = torch.cuda.max_memory_allocated(device) / GIB if device.type == "cuda" else 0.0
            yield f"loss of {voxels} voxels, {name}", f"{1e3 * seconds:.0f} ms, {peak:.2f} GiB", "forward and backward"


def _embed(device: torch.device, tiny: bool) -> Iterator[Row]:
    shape = (40, 40, 20) if tiny else (350, 300, 200)
    image = torch.randint(-100, 200, shape, dtype=torch.int16).numpy()
    volume = Volume(image, torch.diag(torch.tensor([1.0, 1.0, 2.0, 1.0], dtype=torch.float64)).numpy())
    backbone = FPN3d(base_channels=4 if tiny else 16, num_scales=3 if tiny else 6).eval()
    for batch_size in (1, 4):
        options = {"device": device, "batch_size": batch_size, "progress": False, "compiled": False}
        seconds = _seconds(functools.partial(embed, volume, backbone, **options), device, rounds=1)
        yield f"embed {'x'.join(map(str, shape))}, batches of {batch_size}", f"{seconds:.2f} s a CT", ""


def _loader(device: torch.device, tiny: bool) -> Iterator[Row]:
    """Pairs a second from a cache, and what a training waits for them."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder))
        spacing = (4.0, 4.0, 4.0) if tiny else (1.5, 1.5, 3.0)
        warm_up(cache, [Phantoms(2, spacing_mm=spacing)], num_workers=0)
        for workers in (0,) if tiny else (4, 8):
            loader = DataLoader(
                PairBatches(cache, cache.entries(), seed=0, batch_size=10, patches_per_volume=10),
                batch_size=None,
                sampler=BatchOrder(),
                num_workers=workers,
                worker_init_fn=one_thread,
                multiprocessing_context="spawn" if workers else None,
            )
            batches, count = iter(loader), 3 if tiny else 60
            for _ in range(2 if tiny else 20):  # what was read ahead is not counted
                next(batches)
            start = time.perf_counter()
            for _ in range(count):
                next(batches)
            yield (
                f"loader, {workers} workers",
                f"{10 * count / (time.perf_counter() - start):.0f} pairs/s",
                "10 of one CT a batch",
            )
        if not tiny:
            yield _wait(device, batches)


def _wait(device: torch.device, batches: Iterator[PairBatch]) -> Row:
    module = Pretraining(FPN3d()).to(device)
    waited = total = 0.0
    for i in range(20):
        start = time.perf_counter()
        batch = next(batches)
        ready = time.perf_counter()
        moved = batch._replace(patches_hu=batch.patches_hu.to(device), voxels=[v.to(device) for v in batch.voxels])
        with torch.autocast(device.type, torch.bfloat16):
            value = module.loss_of(module.embedded(moved)[1])
        value.backward()
        value.item()
        if i >= 5:
            waited += ready - start
            total += time.perf_counter() - start
    return "loader wait in our default's step", f"{100 * waited / total:.1f} %", "8 workers"


def _seconds(way: Callable[[], object], device: torch.device, *, rounds: int = 5) -> float:
    """The mean of some rounds after one to warm up."""
    way()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(rounds):
        way()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / rounds


if __name__ == "__main__":
    main()
