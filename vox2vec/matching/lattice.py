"""Values on a lattice of nodes, on one of every second node, and the way back: what a pyramid of scales is made of."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_AXES = (-3, -2, -1)


def nodes_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """How many nodes, one at every second voxel, hold all voxels of a grid between them."""
    return tuple(n // 2 + 1 for n in shape)


def halved(values: Float[Tensor, "*c x y z"]) -> Float[Tensor, "*c x2 y2 z2"]:
    """Every second voxel, the mean of itself and half of each neighbour along each axis; ends have one neighbour."""
    ones = torch.ones(values.shape[-3:])
    return _gathered(values) / _gathered(ones)


def gathered(values: Float[Tensor, "*c x y z"]) -> Float[Tensor, "*c x2 y2 z2"]:
    """The transpose of `refined`: each voxel's value is shared among the nodes of `nodes_of` around it."""
    return _gathered(F.pad(values, [k for n in reversed(values.shape[-3:]) for k in (0, 1 - n % 2)]))


def refined(values: Float[Tensor, "*c x2 y2 z2"], shape: tuple[int, ...]) -> Float[Tensor, "*c x y z"]:
    """Linear interpolation between nodes, on a grid of `shape` whose every second voxel is a node.

    A voxel beyond the last node has the node's value.
    """
    for axis, size in zip(_AXES, shape, strict=True):
        nodes = values.movedim(axis, -1)
        after = torch.cat([nodes[..., 1:], nodes[..., -1:]], dim=-1)
        both = torch.stack([nodes, (nodes + after) / 2], dim=-1).flatten(-2)
        values = both[..., :size].movedim(-1, axis)
    return values.contiguous()


def _gathered(values: Tensor) -> Tensor:
    for axis in _AXES:
        line = values.movedim(axis, -1)
        even, odd = line[..., ::2].clone(), line[..., 1::2]
        even[..., : odd.shape[-1]] += odd / 2
        even[..., 1:] += odd[..., : even.shape[-1] - 1] / 2
        values = even.movedim(-1, axis)
    return values
