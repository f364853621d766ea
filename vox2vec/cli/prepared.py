"""The backbone that is asked for; shared by the commands that use vectors."""

from typing import Any

from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.pretrained import is_at_hand, load_backbone, vox2vec_small


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
