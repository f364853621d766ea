"""The step of a descent solves its equations, and a descent finds a known shift."""

import torch

from vox2vec.matching.descent import Images, descended, solved


def test_a_step_solves_the_equations_as_written_out():
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(3, 3, 2, 3, 2, generator=generator)
    full = torch.einsum("ikxyz,jkxyz->ijxyz", half, half)
    curvature = torch.stack([full[i, j] for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))])
    pull = torch.randn(3, 2, 3, 2, generator=generator)
    nodes = [(x, y, z) for x in range(2) for y in range(3) for z in range(2)]
    matrix = torch.zeros(36, 36)
    for a, here in enumerate(nodes):
        matrix[3 * a : 3 * a + 3, 3 * a : 3 * a + 3] += full[(slice(None), slice(None), *here)]
        for b, there in enumerate(nodes):
            if sum(abs(p - q) for p, q in zip(here, there, strict=True)) == 1:
                matrix[3 * a : 3 * a + 3, 3 * a : 3 * a + 3] += 0.7 * torch.eye(3)
                matrix[3 * a : 3 * a + 3, 3 * b : 3 * b + 3] -= 0.7 * torch.eye(3)
    slow = torch.linalg.solve(matrix, pull.movedim(0, -1).reshape(-1))
    found = solved(curvature, pull, 0.7, rounds=400).movedim(0, -1).reshape(-1)
    torch.testing.assert_close(found, slow, atol=0.05 * float(slow.abs().max()), rtol=0)


def test_a_shift_is_found_where_the_images_show_it():
    x, y, z = torch.meshgrid(*[torch.arange(24.0)] * 3, indexing="ij")

    def wave(shift):
        return 0.5 + 0.25 * (torch.sin((x - shift) / 2.5) + torch.cos(y / 3) * torch.sin(z / 2))

    images = Images(wave(0.0), wave(1.5), torch.zeros(3), torch.zeros(3), 1.0)
    still = torch.zeros_like(images.nodes_mm())
    found = descended(images, still, still, smoothness=0.01, steps=20)[:, 3:-3, 3:-3, 3:-3]
    torch.testing.assert_close(found[0].mean(), torch.tensor(1.5), atol=0.1, rtol=0)
    assert float(found[1:].abs().mean()) < 0.1
