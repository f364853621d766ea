"""Former names of what arguments.py holds."""

from typing import Any

from vox2vec.cli.arguments import add_device, add_weights, backbone_of

__all__ = ["add_weights_arguments", "backbone_of"]


def add_weights_arguments(parser: Any) -> None:
    """Weights, device and precision."""
    add_weights(parser)
    add_device(parser)
