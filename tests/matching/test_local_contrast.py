"""Local contrast by its formula, and that it is blind to brightness and scale."""

import numpy as np
import torch

from vox2vec.matching.local_contrast import local_contrast


def _image():
    return np.random.default_rng(0).random((7, 6, 8)).astype(np.float32)


def test_it_is_the_formula_voxel_by_voxel():
    image = _image()
    padded = np.pad(image.astype(np.float64), 1, mode="edge")
    found = local_contrast(torch.from_numpy(image), radius=1, floor=0.1).numpy()
    for voxel in np.ndindex(image.shape):
        cube = padded[tuple(slice(v, v + 3) for v in voxel)]
        slow = (image[voxel] - cube.mean()) / np.sqrt(cube.var() + 0.01)
        np.testing.assert_allclose(found[voxel], slow, atol=1e-4)


def test_brighter_and_steeper_tissue_looks_the_same_where_there_is_structure():
    image = torch.from_numpy(_image())
    torch.testing.assert_close(
        local_contrast(3 * image + 0.5, floor=1e-4), local_contrast(image, floor=1e-4), atol=1e-3, rtol=0
    )


def test_what_is_below_the_floor_is_not_raised():
    noise = 0.001 * torch.from_numpy(_image())
    assert float(local_contrast(noise, floor=0.03).abs().max()) < 0.05
