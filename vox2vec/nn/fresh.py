"""A network before its first step: what pre-training begins with, and what it is compared with."""

import torch

from vox2vec.nn.fpn import FPN3d
from vox2vec.recipe import PAPER, Recipe


def fresh_backbone(seed: int, *, base_channels: int = 16, num_scales: int = 6, recipe: Recipe = PAPER) -> FPN3d:
    """Random weights in eval mode, the same for a seed; torch's own generator stays where it was.

    Args:
        recipe: how scans are prepared for it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = FPN3d(base_channels=base_channels, num_scales=num_scales).eval()
    backbone.recipe = recipe
    return backbone
