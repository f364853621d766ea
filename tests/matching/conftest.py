"""Two small scans, embedded once for all tests of this folder."""

import pytest
import torch

from tests.inference.scans import blob, tiny_backbone
from vox2vec.inference.embed import embed
from vox2vec.inference.embedding import Embedding


@pytest.fixture(scope="session")
def embeddings() -> tuple[Embedding, ...]:
    """Of two scans of other sizes, with levels refined where windows overlap."""
    backbone = tiny_backbone((16, 16, 8))
    return tuple(
        embed(blob(shape, seed), backbone, precision="32", device="cpu", dtype=torch.float32, progress=False)
        for shape, seed in (((30, 21, 15), 0), ((27, 33, 19), 1))
    )
