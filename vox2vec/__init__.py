"""vox2vec: a vector for every voxel of a CT."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from vox2vec.inference.embed import Embedder, embed
from vox2vec.inference.embedding import Embedding
from vox2vec.matching.index import Index
from vox2vec.matching.landmarks import Matches, match
from vox2vec.nn.checkpoint import save_backbone
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.pretrained import load_backbone, vox2vec_contrastive, vox2vec_small, vox2vec_vicreg
from vox2vec.preprocessing.prepare import prepare
from vox2vec.reading.load import load_volume
from vox2vec.recipe import PAPER, Recipe
from vox2vec.volume import Volume

if TYPE_CHECKING:
    from vox2vec.evaluation.evaluate import evaluate

__version__ = version("vox2vec")

__all__ = [
    "PAPER",
    "Embedder",
    "Embedding",
    "FPN3d",
    "Index",
    "Matches",
    "Recipe",
    "Volume",
    "embed",
    "evaluate",
    "load_backbone",
    "load_volume",
    "match",
    "prepare",
    "save_backbone",
    "vox2vec_contrastive",
    "vox2vec_small",
    "vox2vec_vicreg",
]


def __getattr__(name: str) -> Any:
    """`evaluate`, whose import loads Lightning, when it is first asked for."""
    if name != "evaluate":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vox2vec.evaluation.evaluate import evaluate

    return evaluate
