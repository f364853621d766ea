"""The monitor of a run: one cached CT, with its pictures in the log folder and on the board."""

from pathlib import Path

import numpy as np
from pytorch_lightning.loggers import TensorBoardLogger

from vox2vec.data.cache import Cache
from vox2vec.data.entry import Entry
from vox2vec.figures.overview import figures_of
from vox2vec.geometry import Box
from vox2vec.inference.embedding import Embedding
from vox2vec.training.matching_monitor import MatchingMonitor
from vox2vec.volume import Volume


def monitor_of(
    cache: Cache, entry: Entry, log_dir: Path, board: TensorBoardLogger, *, every_epochs: int, seed: int
) -> MatchingMonitor:
    """Of one CT; pictures show the body's voxel nearest to its middle."""
    scan = cache.open(entry)
    whole = Box((0, 0, 0), scan.shape)
    volume = Volume(scan.image_hu(whole), np.array(entry.affine))
    body = np.argwhere(scan.body(whole))
    middle = body[np.abs(body - (np.array(scan.shape) - 1) / 2).sum(axis=1).argmin()]

    def draw(scan: Volume, embedding: Embedding, step: int) -> None:
        for name, figure in figures_of(embedding, scan, point_mm=volume.to_mm(middle).tolist()).items():
            path = log_dir / "pictures" / f"{name}_{step:06d}.png"
            path.parent.mkdir(exist_ok=True)
            figure.savefig(path)
            board.experiment.add_figure(name, figure, step)

    return MatchingMonitor(volume, cache.recipe.patch_size, every_epochs=every_epochs, draw=draw, seed=seed)
