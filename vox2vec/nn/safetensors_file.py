"""Tensors in a safetensors file, written whole or not at all."""

import stat
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def write_safetensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write by way of a temporary name beside `path`, with the permissions of any new file.

    safetensors itself (0.8) makes files that nobody but their owner may read, not even the owner's group.
    """
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    partial.touch()
    mode = stat.S_IMODE(partial.stat().st_mode)
    save_file(dict(tensors), partial, dict(metadata))
    partial.chmod(mode)
    partial.replace(path)
