"""Small scans and networks for tests of inference."""

import numpy as np
import torch

from vox2vec.nn.fpn import FPN3d
from vox2vec.recipe import Recipe
from vox2vec.volume import Volume


def blob(shape: tuple[int, int, int], seed: int) -> Volume:
    """A body of noise that fills most of a 1x1x2 mm grid."""
    rng = np.random.default_rng(seed)
    image = rng.integers(-1024, 1200, shape).astype(np.int16)
    image[0, 0, 0] = image[-1, -1, -1] = 100  # the bounding box is the whole grid
    return Volume(image, np.array([[1.0, 0, 0, -7], [0, 1, 0, 3.5], [0, 0, 2, 11], [0, 0, 0, 1]]))


def tiny_backbone(
    patch_size: tuple[int, int, int], *, spacing_mm: tuple[float, float, float] = (1.0, 1.0, 2.0)
) -> FPN3d:
    """A small network whose batch norms are no identities."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = FPN3d(base_channels=3, num_scales=4)
        for module in backbone.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
                torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    backbone.recipe = Recipe(spacing_mm=spacing_mm, patch_size=patch_size)
    return backbone.eval()
