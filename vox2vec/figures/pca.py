"""The features' first three principal components, as colours over the CT."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from matplotlib.figure import Figure

from vox2vec.figures.slices import middle_of, overlay_figure
from vox2vec.inference.embedding import Embedding
from vox2vec.volume import Volume

_OPACITY = 0.8
_RANKS = np.linspace(0, 1, 257)


def pca_figure(
    embedding: Embedding, volume: Volume, *, levels: int | None = 1, point_mm: Any = None, title: str | None = None
) -> Figure:
    """Slices of the scan above, and below them red, green, blue for the first three principal components.

    Each colour is the rank of the component among the body's voxels: alike colours are alike features within one scan,
    not between scans.

    Args:
        volume: the scan that was embedded, HU.
        levels: how many levels to take, finest first; None takes all. The finest one holds what the coarser ones
            passed down and gives the sharpest picture; in untrained networks the coarse ones mostly show where the
            windows end.
        point_mm: RAS+ millimetres (3,) that the slices pass through; by default the middle of the body.
    """
    chosen = replace(embedding, pyramid=embedding.pyramid[:levels], strides=embedding.strides[:levels])
    components = principal_components(chosen)
    body = embedding.body & embedding.has_vector()
    colours = np.empty((*body.shape, 4), np.float32)
    for channel, component in enumerate(components):
        quantiles = np.quantile(component[body], _RANKS)
        colours[..., channel] = np.interp(component, quantiles, _RANKS)
    colours[..., 3] = _OPACITY * body
    point = middle_of(body, embedding.grid) if point_mm is None else point_mm
    return overlay_figure(volume, colours, embedding.grid, point_mm=point, title=title)


def principal_components(
    embedding: Embedding, *, num: int = 3, sample: int = 20_000, seed: int = 0
) -> Float32[np.ndarray, "num x y z"]:
    """Projections of every voxel on the first principal axes of the body's vectors.

    Each level is centred and scaled to the same total variance first, else the coarse levels, which have most of the
    channels, drown the fine ones. Axes point to where their largest coefficient is positive.

    Args:
        sample: body voxels drawn for the fit.
    """
    voxels = np.argwhere(embedding.body & embedding.has_vector())
    drawn = np.random.default_rng(seed).choice(len(voxels), min(sample, len(voxels)), replace=False)
    vectors = embedding.at(embedding.grid.to_mm(voxels[drawn]))
    if len(vectors) <= num:
        raise ValueError(f"principal components need more than {num} body voxels with a vector, got {len(vectors)}")
    centred = vectors - vectors.mean(dim=0)
    widths = [level.shape[0] for level in embedding.pyramid]
    scale = torch.cat([part.new_full((part.shape[1],), _spread(part)) for part in centred.split(widths, dim=1)])
    _, _, axes = torch.linalg.svd((centred / scale).double().T @ (centred / scale).double())
    axes = axes[:num].float()
    axes = axes * axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)).sign()
    directions = (axes / scale).T
    components = embedding.projected(directions)
    components -= (vectors.mean(dim=0) @ directions).numpy()[:, None, None, None]
    return components


def _spread(part: torch.Tensor) -> float:
    return max(float(part.square().sum(dim=1).mean().sqrt()), 1e-12)
