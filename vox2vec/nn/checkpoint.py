"""A backbone in a file: read as data whatever wrote it, written as safetensors that rebuild it alone."""

import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vox2vec.nn.fingerprint import architecture_of, fingerprint, fingerprint_of_numbers
from vox2vec.nn.fpn import FPN3d, Rounded
from vox2vec.nn.safetensors_file import write_safetensors
from vox2vec.recipe import Recipe

FORMAT = "vox2vec-backbone"
FORMAT_VERSION = "1"

_FIRST = "first_conv.weight"
_PREFIX_WORDS = ("backbone", "module", "model", "_orig_mod", "state_dict")
_SHOWN = 3


def save_backbone(
    backbone: FPN3d,
    path: str | PathLike[str],
    *,
    dtype: torch.dtype = torch.float32,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write safetensors with the architecture and the recipe in its metadata; the file alone rebuilds the network.

    Args:
        dtype: of the numbers on file; float16 halves it. Loaded, they are float32 again, and the file says of what
            they are a copy, so that heads and embeddings of the one serve the other.
        metadata: further entries, such as the command that trained it.

    Raises:
        ValueError: a number that `dtype` cannot hold.
    """
    described = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "architecture": json.dumps(architecture_of(backbone)),
        "recipe": json.dumps(backbone.recipe.as_dict()),
    }
    tensors = {name: _as(value.detach().cpu(), dtype, name) for name, value in backbone.state_dict().items()}
    origin, here = fingerprint(backbone), fingerprint_of_numbers(backbone, tensors)
    if here != origin:
        described["rounded"] = json.dumps({"here": here, "origin": origin})
    write_safetensors(tensors, Path(path), {**(metadata or {}), **described})


def backbone_from_file(path: str | PathLike[str]) -> FPN3d:
    """The backbone, in eval mode, of a .safetensors, .pt or .ckpt file; the content decides, not the suffix.

    Only tensors and plain data are read, never pickled code.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no weights, cut short, holding code, or not those of an FPN3d; the message says which and why.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there are no weights at {path}")
    with path.open("rb") as file:
        head = file.read(512)
    _refuse_what_is_no_weights(path, head)
    if _looks_like_safetensors(head):
        tensors, metadata = _from_safetensors(path)
    else:
        tensors, metadata = _from_torch(path), {}
    if metadata.get("format") == FORMAT and metadata.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {metadata.get('format_version')}, this vox2vec reads version {FORMAT_VERSION}; "
            "install the version that wrote it"
        )
    backbone = _backbone_from_tensors(tensors, path)
    if "architecture" in metadata and json.loads(metadata["architecture"]) != architecture_of(backbone):
        raise ValueError(
            f"{path} says it holds {metadata['architecture']}, its tensors are those of "
            f"{json.dumps(architecture_of(backbone))}; the file was changed after it was saved"
        )
    if "recipe" in metadata:
        backbone.recipe = Recipe.from_dict(json.loads(metadata["recipe"]))
    if "rounded" in metadata:
        backbone.rounded = Rounded(**json.loads(metadata["rounded"]))
    return backbone.eval()


def _as(value: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    converted = value.to(dtype if value.is_floating_point() else value.dtype).contiguous()
    if not torch.isfinite(converted).all():
        raise ValueError(f"{name} must hold numbers that {dtype} can hold, its largest is {value.abs().max():g}")
    return converted


def _refuse_what_is_no_weights(path: Path, head: bytes) -> None:
    if not head:
        raise ValueError(f"{path} is empty; download the weights again")
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ValueError(
            f"{path} is an HTML page, not weights: a web page was saved in place of the file. "
            "Use the page's download link (on the Hugging Face Hub: .../resolve/..., not .../blob/...)"
        )
    if text.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} is a git-lfs pointer, not weights; run `git lfs pull`, or download the file itself")


def _looks_like_safetensors(head: bytes) -> bool:
    """Eight bytes of length, then JSON."""
    return len(head) > 8 and head[8:9] == b"{"


def _from_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or damaged ({error}); download or copy it again") from error


def _from_torch(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "GLOBAL" in str(error):
            raise ValueError(
                f"{path} holds pickled code, which is never run here ({_refused_global(error)}). Where you trust it, "
                "convert it once: torch.save(torch.load(FILE, weights_only=False)['state_dict'], 'weights.pt')"
            ) from error
        raise ValueError(f"{path} is not a file of weights (.pt, .ckpt or .safetensors), or is damaged") from error
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} is truncated or damaged, or not a file of weights; download or copy it again"
        ) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else loaded
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{path} must hold a state dict, names to tensors, got {type(state).__name__}")
    return dict(state)


def _refused_global(error: Exception) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    return found.group(1) if found else "an object that is no tensor"


def _backbone_from_tensors(tensors: Mapping[str, Tensor], path: Path) -> FPN3d:
    """Build the network that the names and shapes describe, and load them strictly."""
    state = _without_prefix(tensors, path)
    backbone = FPN3d(**_architecture_from(state, path))
    expected = backbone.state_dict()
    missing, unexpected = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unexpected:
        raise ValueError(
            f"the names in {path} are not those of an FPN3d: {_few('missing', missing)}; "
            f"{_few('unexpected', unexpected)}. Likely another architecture, other scales, or a damaged file"
        )
    wrong = [f"{n} is {tuple(state[n].shape)}" for n in expected if state[n].shape != expected[n].shape]
    if wrong:
        raise ValueError(
            f"the shapes in {path} are not those of an FPN3d with {architecture_of(backbone)}: {_few('wrong', wrong)}. "
            "Likely other channels, or a network that is not 3D"
        )
    backbone.load_state_dict(state, strict=True)
    return backbone


def _without_prefix(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The backbone's own tensors: what stands behind the prefix of `first_conv.weight`; heads are dropped with it."""
    prefixes = [name[: -len(_FIRST)] for name in tensors if name.endswith(_FIRST)]
    known = [p for p in prefixes if all(word in _PREFIX_WORDS for word in p.split(".")[:-1])]
    if not known:
        reason = (
            f"a prefix this library does not know, {prefixes[0]!r}: remove it from the names and save again"
            if prefixes
            else "another architecture: an FPN3d has first_conv, left_blocks, down_blocks, ..."
        )
        raise ValueError(
            f"the names in {path} are not those of an FPN3d: {_few('missing', [_FIRST])}; "
            f"{_few('unexpected', sorted(tensors))}. Likely {reason}"
        )
    prefix = min(known, key=len)
    return (
        {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
        if prefix
        else {name: value for name, value in tensors.items() if not name.startswith(("proj_head.", "heads.", "head."))}
    )


def _architecture_from(state: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """Channels, scales and blocks, read from the weights."""
    first = state[_FIRST]
    if first.ndim != 5:
        raise ValueError(
            f"the shapes in {path} are not those of an FPN3d: {_FIRST} is {tuple(first.shape)}, must have 5 axes. "
            "Likely a 2D network"
        )
    num_scales = 1 + _count(state, r"down_blocks\.(\d+)\.")
    blocks = [_count(state, rf"left_blocks\.{i}\.layers\.(\d+)\.") for i in range(num_scales - 1)]
    blocks.append(_count(state, r"bottom_block\.layers\.(\d+)\."))
    return {
        "in_channels": first.shape[1],
        "base_channels": first.shape[0],
        "num_scales": num_scales,
        "num_blocks": [max(n, 1) for n in blocks],
    }


def _count(names: Mapping[str, Tensor], pattern: str) -> int:
    return 1 + max((int(m.group(1)) for m in map(re.compile(pattern).match, names) if m), default=-1)


def _few(what: str, names: list[str]) -> str:
    if not names:
        return f"none {what}"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{what} {', '.join(names[:_SHOWN])}{more}"
