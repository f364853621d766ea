"""What several test files need."""

import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch

if "PYTEST_XDIST_WORKER" in os.environ:  # a core for each of the two; their subprocesses inherit it
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def original() -> Path:
    """The folder of the original network's numbers; its README says what is what."""
    return Path(__file__).parent / "data" / "reference"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real CTs beside the checkout; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"real CTs are not here: {folder} does not exist")
    return folder


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """Switch off the shape types, where a test wants the library's own ValueError."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
