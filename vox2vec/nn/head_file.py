"""A trained segmentation head in a file: what it finds, and on whose features it was trained."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from safetensors import SafetensorError, safe_open

from vox2vec.nn.fingerprint import fingerprint
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.heads import LinearHead, NonLinearHead
from vox2vec.nn.pretrained import REPOSITORY_ID, from_hub, vox2vec_small
from vox2vec.nn.safetensors_file import write_safetensors

FORMAT = "vox2vec-head"
FORMAT_VERSION = "1"
KINDS: dict[str, type[LinearHead] | type[NonLinearHead]] = {"linear": LinearHead, "nonlinear": NonLinearHead}


@dataclass(frozen=True, eq=False)
class SegmentationHead:
    """A head and what it is for.

    Attributes:
        network: logits of each class, in the order of `label_names`.
        label_names: number to structure.
        fingerprint: of the backbone whose features it reads.
    """

    network: LinearHead | NonLinearHead
    label_names: Mapping[int, str]
    fingerprint: str


def save_head(
    head: SegmentationHead,
    path: str | PathLike[str],
    *,
    base_channels: int,
    num_scales: int,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write safetensors that rebuild the head alone.

    Args:
        base_channels, num_scales: of the backbone.
        metadata: further entries, such as the command that trained it.
    """
    described = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kind": next(kind for kind, made in KINDS.items() if type(head.network) is made),
        "architecture": json.dumps({"base_channels": base_channels, "num_scales": num_scales}),
        "label_names": json.dumps({str(number): name for number, name in head.label_names.items()}),
        "backbone_fingerprint": head.fingerprint,
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in head.network.state_dict().items()}
    write_safetensors(tensors, Path(path), {**(metadata or {}), **described})


def load_head(source: str | PathLike[str]) -> SegmentationHead:
    """A head in eval mode, from a file of `save_head`, or `head.safetensors` of a Hub repository "owner/name".

    Raises:
        FileNotFoundError: there is no such file.
        ConnectionError: a Hub repository is out of reach, and not in the cache.
        ValueError: not a head's file.
    """
    path = Path(source)
    if not path.exists() and REPOSITORY_ID.fullmatch(str(source)) and path.suffix == "":
        repository, _, revision = str(source).partition("@")
        path = Path(from_hub(repository, "head.safetensors", revision or None))
    if not path.is_file():
        raise FileNotFoundError(f"there is no head at {source}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} must be a head's safetensors, it is not, or damaged ({error})") from error
    if metadata.get("format") != FORMAT or metadata.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} must be a head saved by vox2vec (format {FORMAT} {FORMAT_VERSION}), it says "
            f"{metadata.get('format')} {metadata.get('format_version')}; a backbone goes to --weights"
        )
    names = {int(number): str(name) for number, name in json.loads(metadata["label_names"]).items()}
    network = KINDS[metadata["kind"]](**json.loads(metadata["architecture"]), num_classes=len(names))
    network.load_state_dict(tensors)
    return SegmentationHead(network.eval(), names, metadata["backbone_fingerprint"])


def weights_beside(head: SegmentationHead, source: str | PathLike[str]) -> str:
    """The weights that go with a head, for `load_backbone`.

    They are the backbone.safetensors beside its file, as `evaluate` leaves it where the backbone learned; else "small"
    where the head was trained on those, and "contrastive".

    Args:
        source: what the head was loaded from.
    """
    beside = Path(source).parent / "backbone.safetensors"
    if beside.is_file():
        return str(beside)
    return "small" if head.fingerprint == fingerprint(vox2vec_small()) else "contrastive"


def check_backbone(head: SegmentationHead, backbone: FPN3d) -> None:
    """A ValueError where the head was trained on another backbone's features."""
    found = fingerprint(backbone)
    if found != head.fingerprint:
        raise ValueError(
            f"a head must be used with the backbone it was trained on, {head.fingerprint}; this one is {found}. "
            "Pass that backbone's weights, such as the backbone.safetensors beside the head"
        )
