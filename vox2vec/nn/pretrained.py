"""Backbones with weights: the released ones from the Hugging Face Hub, and anyone's from a file."""

import os
import re
from os import PathLike
from pathlib import Path

from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from vox2vec.nn.checkpoint import backbone_from_file
from vox2vec.nn.fingerprint import architecture_of
from vox2vec.nn.fpn import FPN3d

REPOSITORY = "mishgon/vox2vec"
REVISION = "29dfa9718434a58b3241af3c43dca90c867bea15"

REPOSITORY_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_RELEASED = ("contrastive", "vicreg")
_SMALL = Path(__file__).with_name("small.safetensors")


def vox2vec_contrastive(*, pretrained: bool = True) -> FPN3d:
    """The network of the paper in eval mode, with its released contrastive weights.

    Downloaded once (190 MB) from the Hugging Face Hub, `mishgon/vox2vec` at a pinned revision.

    Args:
        pretrained: False gives the bare, freshly initialised network, without network access.

    Raises:
        ConnectionError: offline, and the weights are not in the cache; says how to fetch them by hand.
    """
    return _released("contrastive", pretrained)


def vox2vec_vicreg(*, pretrained: bool = True) -> FPN3d:
    """The network of the paper in eval mode, with its released VICReg weights; else as `vox2vec_contrastive`."""
    return _released("vicreg", pretrained)


def is_at_hand(name: str) -> bool:
    """Whether released weights, "contrastive" or "vicreg", are in the cache, or the Hub answers at once."""
    filename = f"vox2vec_{name}.pt"
    if isinstance(try_to_load_from_cache(REPOSITORY, filename, revision=REVISION), str):
        return True
    try:
        get_hf_file_metadata(hf_hub_url(REPOSITORY, filename, revision=REVISION, endpoint=_endpoint()), timeout=5)
    except Exception:  # each HTTP library that huggingface_hub has used fails in classes of its own
        return False
    return True


def vox2vec_small() -> FPN3d:
    """A small network in eval mode, whose weights ship with the package: no network access, a CPU is enough.

    0.74 million parameters, vectors of 120 numbers on a grid of 3 mm. Learned without labels from 105 public CTs, a
    hundred of them coarse head and neck: a starting point, not the paper's model. How it was made, from what, and what
    it is not good for: MODEL_CARD.md.
    """
    return backbone_from_file(_SMALL)


def load_backbone(source: str | PathLike[str]) -> FPN3d:
    """A backbone in eval mode; channels, scales and, where stated, the recipe are read from the weights.

    Never runs pickled code. Prefixes such as `backbone.`, `module.` and `model.` are stripped, heads dropped.

    Args:
        source: a file (.safetensors, .pt, a Lightning .ckpt of this library or of the original code), "contrastive" or
            "vicreg" for the released weights, "small" for those that ship with the package (these three whatever the
            working directory holds: a file of such a name is "./small", or a Path), or a Hub repository "owner/name"
            or "owner/name@revision", of which `backbone.safetensors` is taken.

    Raises:
        FileNotFoundError: there is no such file.
        ConnectionError: a Hub repository is out of reach, and not in the cache.
        ValueError: not the weights of an FPN3d; says what is missing or unexpected, and the likely reason.
    """
    name = str(source)
    if name in (*_RELEASED, "small") and not (isinstance(source, PathLike) and Path(source).exists()):
        return vox2vec_small() if name == "small" else _released(name, True)
    if Path(source).exists():
        return backbone_from_file(source)
    if REPOSITORY_ID.fullmatch(name) and not name.endswith((".pt", ".pth", ".ckpt", ".safetensors")):
        repository, _, revision = name.partition("@")
        return backbone_from_file(from_hub(repository, None, revision or None))
    raise FileNotFoundError(
        f"there are no weights at {name}; give a file, a Hub repository (owner/name), or one of "
        f"{', '.join(_RELEASED)}, small"
    )


def _released(name: str, pretrained: bool) -> FPN3d:
    if not pretrained:
        return FPN3d().eval()
    backbone = backbone_from_file(from_hub(REPOSITORY, f"vox2vec_{name}.pt", REVISION))
    if architecture_of(backbone) != architecture_of(FPN3d()):
        raise ValueError(
            f"the released weights must be those of {architecture_of(FPN3d())}, got {architecture_of(backbone)}; "
            "the download is not what was published: clear it from the Hugging Face cache"
        )
    return backbone


def from_hub(repository: str, filename: str | None, revision: str | None) -> str:
    """The path of a file in the local cache, downloaded if it is not there yet."""
    wanted = filename or "backbone.safetensors"
    try:
        return hf_hub_download(repository, wanted, revision=revision, endpoint=_endpoint())
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"the Hub has no repository {repository}, or it is private: log in, or check it"
        ) from error
    except EntryNotFoundError as error:
        if filename is None and not isinstance(error, LocalEntryNotFoundError):
            return _only_weights(repository, revision)
        if not isinstance(error, LocalEntryNotFoundError):
            raise FileNotFoundError(f"the Hub repository {repository} has no file {wanted}") from error
        raise ConnectionError(_offline(repository, wanted, revision)) from error
    except (OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise ConnectionError(_offline(repository, wanted, revision)) from error


def _only_weights(repository: str, revision: str | None) -> str:
    """The one file of weights of a repository without `backbone.safetensors`."""
    listed = HfApi(endpoint=_endpoint()).list_repo_files(repository, revision=revision)
    found = [name for name in listed if name.endswith((".safetensors", ".pt", ".ckpt"))]
    if len(found) != 1:
        raise ValueError(
            f"the Hub repository {repository} must have backbone.safetensors, or a single file of weights; got "
            f"{found or 'none'}. Download the one you mean and pass the file"
        )
    return from_hub(repository, found[0], revision)


def _offline(repository: str, filename: str, revision: str | None) -> str:
    url = hf_hub_url(repository, filename, revision=revision, endpoint=_endpoint())
    return (
        f"the weights {filename} of {repository} are not in the cache, and the Hugging Face Hub is out of reach. Fetch "
        f"{url} on another machine, copy it here, and pass the file: load_backbone('{filename}'), or "
        f"--weights {filename}"
    )


def _endpoint() -> str | None:
    """A mirror of the Hub, where HF_ENDPOINT names one (huggingface_hub itself reads it only when it is imported)."""
    return os.environ.get("HF_ENDPOINT")
