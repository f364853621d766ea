"""vox2vec: a vector for every voxel of a CT."""

import re
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vox2vec.evaluation.evaluate import evaluate
    from vox2vec.inference.embed import Embedder, embed
    from vox2vec.inference.embedding import Embedding
    from vox2vec.matching.examples import segment_by_examples
    from vox2vec.matching.field import Field
    from vox2vec.matching.index import Index
    from vox2vec.matching.landmarks import match
    from vox2vec.matching.matches import Matches
    from vox2vec.matching.registration import Registration, register
    from vox2vec.nn.checkpoint import save_backbone
    from vox2vec.nn.fpn import FPN3d
    from vox2vec.nn.pretrained import load_backbone, vox2vec_contrastive, vox2vec_small, vox2vec_vicreg
    from vox2vec.preprocessing.prepare import prepare
    from vox2vec.reading.load import load_volume
    from vox2vec.recipe import PAPER, Recipe
    from vox2vec.volume import Volume

__all__ = [
    "PAPER",
    "Embedder",
    "Embedding",
    "FPN3d",
    "Field",
    "Index",
    "Matches",
    "Recipe",
    "Registration",
    "Volume",
    "embed",
    "evaluate",
    "load_backbone",
    "load_volume",
    "match",
    "prepare",
    "register",
    "save_backbone",
    "segment_by_examples",
    "vox2vec_contrastive",
    "vox2vec_small",
    "vox2vec_vicreg",
]
_FILES = {  # of the doors: each is loaded when it is first asked for, so that `vox2vec --help` waits for no torch
    "vox2vec.evaluation.evaluate": ("evaluate",),
    "vox2vec.inference.embed": ("Embedder", "embed"),
    "vox2vec.inference.embedding": ("Embedding",),
    "vox2vec.matching.examples": ("segment_by_examples",),
    "vox2vec.matching.field": ("Field",),
    "vox2vec.matching.index": ("Index",),
    "vox2vec.matching.landmarks": ("match",),
    "vox2vec.matching.matches": ("Matches",),
    "vox2vec.matching.registration": ("Registration", "register"),
    "vox2vec.nn.checkpoint": ("save_backbone",),
    "vox2vec.nn.fpn": ("FPN3d",),
    "vox2vec.nn.pretrained": ("load_backbone", "vox2vec_contrastive", "vox2vec_small", "vox2vec_vicreg"),
    "vox2vec.preprocessing.prepare": ("prepare",),
    "vox2vec.reading.load": ("load_volume",),
    "vox2vec.recipe": ("PAPER", "Recipe"),
    "vox2vec.volume": ("Volume",),
}


if not TYPE_CHECKING:  # a type checker knows the doors by their imports, and so tells a name that is none

    def __getattr__(name: str) -> Any:
        file = next((file for file, names in _FILES.items() if name in names), None)
        if file is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = getattr(import_module(file), name)
        return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    """Of the package as installed; in a clone that is not, as its pyproject.toml says."""
    try:
        return version("vox2vec")
    except PackageNotFoundError:
        project = Path(__file__).parents[1] / "pyproject.toml"
        told = re.search(r'^version = "(.+)"$', project.read_text(encoding="utf-8"), re.M) if project.exists() else None
        return told[1] if told else "unknown"


__version__ = _version()
