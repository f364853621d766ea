"""The pictures that a scan and its features are first looked at by."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vox2vec.figures.pca import pca_figure
from vox2vec.figures.similarity import similarity_figure
from vox2vec.figures.slices import slices_figure
from vox2vec.figures.style import save_figures
from vox2vec.inference.embedding import Embedding
from vox2vec.volume import Volume


def figures_of(embedding: Embedding, volume: Volume, *, point_mm: list[float] | None = None) -> dict[str, Figure]:
    """The scan, the colours of its features, and the similarity with a point, by default in the middle."""
    point = np.array(point_mm) if point_mm is not None else embedding.grid.to_mm((np.array(embedding.shape) - 1) / 2)
    return {
        "slices": slices_figure(volume, point_mm=point),
        "pca": pca_figure(embedding, volume, point_mm=point),
        "similarity": similarity_figure(embedding, volume, point),
    }


def write_figures(
    embedding: Embedding, volume: Volume, folder: Path, *, point_mm: list[float] | None = None
) -> list[Path]:
    """Write `figures_of` a scan as slices.png, pca.png and similarity.png into `folder`, which is made; their paths."""
    return save_figures(figures_of(embedding, volume, point_mm=point_mm), folder)
