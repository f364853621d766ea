"""What tells two backbones apart: the architecture, and a fingerprint of all that their vectors depend on."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vox2vec.nn.fpn import FPN3d


def architecture_of(backbone: FPN3d) -> dict[str, Any]:
    """The arguments that build a network of the same shape."""
    return {
        "in_channels": backbone.in_channels,
        "base_channels": backbone.base_channels,
        "num_scales": backbone.num_scales,
        "num_blocks": list(backbone.num_blocks),
    }


def fingerprint(backbone: FPN3d) -> str:
    """16 hex digits that differ where weights, architecture or recipe do; embeddings of two cannot be compared.

    The numbers count, not how they are stored: half and bfloat16 weights are taken as the float32 that they stand for.
    A copy that `save_backbone` rounded (`dtype=torch.float16`) has the fingerprint of what it is a copy of, as long as
    nothing changes it after it was loaded: its vectors differ by less than computing in bfloat16 does, and heads,
    embeddings and indices of the one serve the other.
    """
    found = fingerprint_of_numbers(backbone, backbone.state_dict())
    if backbone.rounded is not None and backbone.rounded.here == found:
        return backbone.rounded.origin
    return found


def fingerprint_of_numbers(backbone: FPN3d, tensors: Mapping[str, Tensor]) -> str:
    """The same with `tensors` for the weights, and of nothing but the numbers."""
    digest = hashlib.sha256(json.dumps([architecture_of(backbone), backbone.recipe.as_dict()]).encode())
    for name, value in sorted(tensors.items()):
        exact = value.detach().cpu().to(torch.float32 if value.is_floating_point() else value.dtype)
        digest.update(name.encode())
        digest.update(exact.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
