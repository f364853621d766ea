"""Probing and segmenting: the backbone's share of a step, and the peak of memory for a large scan with many classes."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import nn

from benchmarks.memory import peak_of
from benchmarks.timing import seconds_of
from vox2vec.losses.segmentation import bce_dice
from vox2vec.nn.fingerprint import fingerprint
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.head_file import SegmentationHead
from vox2vec.nn.heads import LinearHead
from vox2vec.training.heads import fresh_heads
from vox2vec.volume import Volume

SHAPE = (512, 512, 600)  # of 0.7x0.7x1 mm, which is 358x358x300 on the released grid
CLASSES = 117  # TotalSegmentator's


def scan() -> Volume:
    """A body that fills the volume."""
    slices = np.random.default_rng(0).integers(-200, 300, (*SHAPE[:2], 10)).astype(np.int16)
    return Volume(np.tile(slices, (1, 1, SHAPE[2] // 10)), np.diag([0.7, 0.7, 1, 1]))


def networks() -> tuple[FPN3d, SegmentationHead]:
    """A small backbone: the classes are what fills the memory."""
    torch.manual_seed(0)
    backbone = FPN3d(base_channels=8, num_scales=4).eval()
    names = {i + 1: f"structure {i + 1}" for i in range(CLASSES)}
    return backbone, SegmentationHead(LinearHead(8, 4, CLASSES), names, fingerprint(backbone))


def rows() -> Iterator[tuple[str, ...]]:
    yield from _probing_step()
    yield _peak_memory()


def _probing_step() -> Iterator[tuple[str, ...]]:
    """What stored features could save at most: the frozen backbone's share of a step of both heads."""
    for name, backbone, shape in (
        ("small network, 7 patches of 32x32x32", FPN3d(base_channels=8, num_scales=4), (7, 1, 32, 32, 32)),
        ("released network, 2 patches of 128x128x32", FPN3d(), (2, 1, 128, 128, 32)),
    ):
        heads = nn.ModuleDict(fresh_heads(backbone, 13, ("linear", "nonlinear"), seed=0))
        for network in (backbone.eval(), heads):
            network.to(memory_format=torch.channels_last_3d)
        patches, body = torch.rand(shape), torch.ones(shape[0], *shape[2:], dtype=torch.bool)
        targets = torch.zeros(shape[0], 13, *shape[2:])

        def forward(backbone=backbone, patches=patches):
            with torch.no_grad():
                return backbone(patches)

        def learn(pyramid, heads=heads, targets=targets, body=body):
            sum(bce_dice(head(pyramid), targets, body) for head in heads.values()).backward()

        pyramid = forward()
        forward_s, heads_s = seconds_of(forward, partial(learn, pyramid), rounds=2)
        yield (
            f"a probing step, {name}",
            f"backbone {forward_s:.2f} s",
            f"both heads {heads_s:.2f} s",
            f"stored features would save at most {forward_s / (forward_s + heads_s):.0%} of it",
        )


def _peak_memory() -> tuple[str, ...]:
    seconds, peak = peak_of(
        "from benchmarks.segment import networks, scan; from vox2vec.inference.segmentation import segment",
        "segment(scan(), *networks(), device='cpu', overlap=0, progress=False)",
    )
    whole = CLASSES * 358 * 358 * 300 * 4 / 2**30
    size = "x".join(map(str, SHAPE))
    name = f"segment {size}, {CLASSES} classes, small network"
    return name, seconds, f"all probabilities at once: {whole:.1f} GiB", peak
