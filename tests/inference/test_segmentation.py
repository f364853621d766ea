"""Probabilities of a whole scan against voxel-by-voxel averaging over the windows."""

import numpy as np
import pytest
import torch

from tests.inference.scans import tiny_backbone
from vox2vec.inference.segmentation import class_probabilities
from vox2vec.inference.windows import Windows, upsampled
from vox2vec.nn.heads import LinearHead
from vox2vec.preprocessing.intensity import scale_hu


def _scan(shape):
    rng = np.random.default_rng(0)
    image = rng.integers(-1000, 500, shape).astype(np.int16)
    body = np.zeros(shape, bool)
    body[1:-1, 2:, :] = True
    return image, body


def _networks():
    backbone = tiny_backbone((8, 8, 8)).eval()
    torch.manual_seed(1)
    return backbone, LinearHead(backbone.base_channels, backbone.num_scales, 3).eval()


@pytest.mark.parametrize("shape", [(8, 8, 8), (6, 9, 13), (17, 12, 8)])
def test_it_equals_the_weighted_mean_over_the_windows(shape):
    image, body = _scan(shape)
    backbone, head = _networks()
    windows = Windows.over(shape, (8, 8, 8))
    found, again = class_probabilities(image, body, backbone, [head, head])
    np.testing.assert_array_equal(found, again)
    weight = upsampled(windows.weight(), windows.block)[tuple(slice(n) for n in windows.size)]
    reach = [(0, max(s[-1] + n - m, 0)) for s, n, m in zip(windows.starts, windows.size, shape, strict=True)]
    padded = np.pad(scale_hu(image, backbone.recipe.window_hu), reach, mode="edge")
    sums, weights = np.zeros((3, *padded.shape)), np.zeros(padded.shape)
    for x in windows.starts[0]:
        for y in windows.starts[1]:
            for z in windows.starts[2]:
                place = (slice(x, x + windows.size[0]), slice(y, y + windows.size[1]), slice(z, z + windows.size[2]))
                with torch.no_grad():
                    logits = head(backbone(torch.from_numpy(padded[place])[None, None]))[0]
                sums[(slice(None), *place)] += weight * logits.double().sigmoid().numpy()
                weights[place] += weight
    wanted = (sums / weights)[:, : shape[0], : shape[1], : shape[2]] * body
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_a_scan_without_body_is_refused():
    image, body = _scan((8, 8, 8))
    backbone, head = _networks()
    with pytest.raises(ValueError, match="must hold a body"):
        class_probabilities(image, np.zeros_like(body), backbone, [head])
