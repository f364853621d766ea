"""The backbone that is asked for, scans and cached CTs embedded by it; shared by the commands that use vectors."""

import argparse
from typing import Any

import numpy as np

from vox2vec.data.cache import Cache
from vox2vec.data.entry import Entry
from vox2vec.geometry import Box
from vox2vec.inference.embed import embed_prepared
from vox2vec.inference.embedding import Embedding
from vox2vec.inference.runner import Precision
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.pretrained import is_at_hand, load_backbone, vox2vec_small
from vox2vec.preprocessing.body import body_mask
from vox2vec.preprocessing.prepare import prepare_hu
from vox2vec.volume import Volume


def add_weights_argument(parser: Any) -> None:
    """For `backbone_of`."""
    parser.add_argument(
        "--weights",
        help="contrastive or vicreg (from the Hugging Face Hub), small (ships with the package), a file, or a Hub "
        "repository (default: contrastive; small where the Hub is out of reach)",
    )


def add_weights_arguments(parser: Any) -> None:
    """Weights, device and precision."""
    add_weights_argument(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.add_argument("--precision", default="auto", choices=("auto", "32", "bf16"), help="as of embed")


def backbone_of(weights: str | None) -> FPN3d:
    """The backbone of `--weights`; by default the released one, or, plainly told, the small one that ships."""
    if weights is not None:
        return load_backbone(weights)
    if is_at_hand("contrastive"):
        return load_backbone("contrastive")
    print(
        "weights: small, which ship with vox2vec (3 mm, 0.7 million parameters, MODEL_CARD.md), because the released "
        "ones are neither in the cache nor in reach"
    )
    return vox2vec_small()


def embedded(volume: Volume, backbone: FPN3d, arguments: argparse.Namespace) -> tuple[Embedding, np.ndarray]:
    """A scan's vectors, and its body on their grid."""
    scan = prepare_hu(volume, backbone.recipe)
    body = body_mask(scan.image, body_hu=backbone.recipe.body_hu)
    return embed_prepared(scan, body, backbone, device=arguments.device, precision=arguments.precision), body


def embedded_entry(
    cache: Cache, entry: Entry, backbone: FPN3d, *, device: str = "auto", precision: Precision = "auto"
) -> tuple[Embedding, np.ndarray]:
    """The same of a cached CT."""
    scan = cache.open(entry)
    whole = Box((0, 0, 0), entry.shape)
    body = scan.body(whole)
    volume = Volume(scan.image_hu(whole), np.array(entry.affine))
    return embed_prepared(volume, body, backbone, device=device, precision=precision, progress=False), body
