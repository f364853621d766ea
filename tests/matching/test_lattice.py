"""Nodes at every second voxel: linear values come back, and gathering is the transpose of refining."""

import pytest
import torch

from vox2vec.matching.lattice import gathered, halved, nodes_of, refined

SHAPES = [(6, 7, 8), (5, 5, 5), (2, 3, 9)]


@pytest.mark.parametrize("shape", SHAPES)
def test_refining_a_linear_map_gives_the_linear_map(shape):
    slopes = torch.tensor([0.5, -2.0, 3.0])
    nodes, voxels = (
        torch.stack(torch.meshgrid(*[step * torch.arange(float(n)) for n in size], indexing="ij"), dim=-1) @ slopes
        for step, size in ((2, nodes_of(shape)), (1, shape))
    )
    torch.testing.assert_close(refined(nodes[None], shape)[0], voxels)


@pytest.mark.parametrize("shape", SHAPES)
def test_gathering_is_the_transpose_of_refining(shape):
    generator = torch.Generator().manual_seed(0)
    nodes = torch.randn(3, *nodes_of(shape), generator=generator)
    voxels = torch.randn(3, *shape, generator=generator)
    torch.testing.assert_close((refined(nodes, shape) * voxels).sum(), (nodes * gathered(voxels)).sum())


def test_halving_keeps_constants_and_takes_half_of_the_neighbours():
    torch.testing.assert_close(halved(torch.full((5, 6, 7), 4.0)), torch.full((3, 3, 4), 4.0))
    line = torch.tensor([0.0, 0, 4, 0, 0, 0, 8]).expand(1, 1, 7)
    torch.testing.assert_close(halved(line)[0, 0], torch.tensor([0.0, 2, 0, 16 / 3]))
