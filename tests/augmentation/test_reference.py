"""Blur and sharpening against the original functions' numbers."""

import numpy as np
import pytest
import torch

from vox2vec.augmentation.axial import axial_blur, axial_sharpening


@pytest.fixture(scope="module")
def arrays(original):
    with np.load(original / "reference.npz") as file:
        return {name[4:]: torch.from_numpy(file[name]) for name in file.files if name.startswith("int/")}


@pytest.mark.parametrize("sigma", ["0.25", "0.9", "1.5"])
def test_blur_equals_the_originals(sigma, arrays):
    torch.testing.assert_close(axial_blur(arrays["x"], float(sigma)), arrays[f"gauss_{sigma}"], rtol=0, atol=1e-3)


def test_sharpening_equals_the_originals(arrays):
    sharpened = axial_sharpening(axial_blur(arrays["x"], 0.75), sigma=0.5, alpha=20)
    torch.testing.assert_close(sharpened, arrays["sharpen_0.75_0.5_20"], rtol=1e-5, atol=1e-3)
