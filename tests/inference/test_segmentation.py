"""Probabilities of a whole scan against voxel-by-voxel averaging over the windows."""

import numpy as np
import pytest
import torch

from tests.inference.scans import tiny_backbone
from tests.inference.whole import class_probabilities
from vox2vec.data.phantom import phantom
from vox2vec.inference.segmentation import labels_of, probability_slabs, segment
from vox2vec.inference.windows import Windows, upsampled
from vox2vec.metrics.overlap import dice
from vox2vec.nn.fingerprint import fingerprint
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.head_file import SegmentationHead
from vox2vec.nn.heads import LinearHead
from vox2vec.preprocessing.intensity import scale_hu
from vox2vec.preprocessing.prepare import prepare_hu
from vox2vec.reading.load import load_volume
from vox2vec.recipe import Recipe
from vox2vec.volume import Volume


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


def test_slabs_come_in_order_cover_the_body_once_and_join_to_the_whole():
    image, body = _scan((9, 12, 40))
    body[:, :, 14:31] = False  # a gap that no window touches
    backbone, head = _networks()
    (whole,) = class_probabilities(image, body, backbone, [head])
    covered, last = np.zeros(40, int), 0
    for place, (part,) in probability_slabs(image, body, backbone, [head]):
        assert place.start >= last
        last = place.stop
        covered[place] += 1
        np.testing.assert_array_equal(part, whole[..., place])
        assert part.shape[-1] <= 8
    assert covered.max() == 1
    assert (covered[body.any(axis=(0, 1))] == 1).all()


def test_labels_are_the_likeliest_class_that_is_likely():
    probabilities = np.array([[0.6, 0.4, 0.2, 0.5], [0.7, 0.3, 0.9, 0.1]], np.float32)[:, :, None, None]
    labels = labels_of(probabilities, [4, 300])
    assert labels.ravel().tolist() == [300, 0, 300, 4]
    assert labels.dtype == np.int16
    assert labels_of(probabilities, [4, 30]).dtype == np.uint8


ORIENTATIONS = [
    {"spacing_mm": (3, 3, 4)},
    {"spacing_mm": (3, 3, 4), "axis_codes": "LPI"},  # prone or feet first, by its axes
    {"spacing_mm": (3, 3, 4), "axis_codes": "PIR"},
    {"spacing_mm": (2, 3, 7), "axis_codes": "RPS"},
    {"spacing_mm": (3, 3, 4), "rotation_deg": 25},
    {"spacing_mm": (3, 3, 4), "rotation_deg": -160, "axis_codes": "SAL"},
]


@pytest.mark.parametrize("grid", ORIENTATIONS, ids=str)
def test_an_oracles_labels_return_to_the_scans_own_grid(grid):
    """The liver is painted bright in a grey body, and the network finds what is bright."""
    patient = phantom(1, **grid)
    liver = patient.labels.image == 6
    painted = np.where(patient.volume.image < -500, -1000, 0)
    painted[liver] = 1000
    volume = Volume(painted.astype(np.int16), patient.volume.affine)
    backbone, head = _bright_finder()
    labels = segment(volume, backbone, head, device="cpu", precision="32", progress=False)
    assert labels.shape == volume.shape
    np.testing.assert_array_equal(labels.affine, volume.affine)
    assert set(np.unique(labels.image)) == {0, 6}
    assert dice(labels.image == 6, liver) >= 0.95


@pytest.mark.parametrize("grid", ORIENTATIONS, ids=str)
def test_every_structure_returns_from_the_prepared_grid(grid):
    """True labels, there and back: only voxels lost to resampling are missing."""
    patient = phantom(1, **grid)
    prepared = prepare_hu(patient.volume, Recipe(spacing_mm=(1.5, 1.5, 2)))
    back = patient.labels.onto(prepared, order=0, fill=0).onto(patient.volume, order=0, fill=0)
    for number in range(1, 14):
        assert dice(back.image == number, patient.labels.image == number) >= 0.95


def test_a_foreign_head_is_refused_and_the_callers_networks_stay_as_they_were():
    backbone, head = _bright_finder()
    volume = phantom(1, spacing_mm=(12, 12, 12)).volume
    backbone.train()
    segment(volume, backbone, head, device="cpu", progress=False)
    assert backbone.training
    with pytest.raises(ValueError, match="must be used with the backbone it was trained on"):
        segment(volume, tiny_backbone((8, 8, 8)), head, progress=False)


def test_a_real_ct_is_segmented_on_its_own_grid(shared):
    volume = load_volume(shared / "data" / "labelled" / "abdomen_3mm.nii.gz")
    backbone, head = _bright_finder(threshold_hu=250)
    labels = segment(volume, backbone, head, device="cpu", precision="32", progress=False)
    bone = volume.image > 250
    assert labels.shape == volume.shape
    assert dice(labels.image == 6, bone) > 0.75  # thin bone fades on a coarser grid


def _bright_finder(threshold_hu=500):
    """A network whose one feature is the image, and a head that finds what is brighter than the threshold."""
    backbone = FPN3d(base_channels=1, num_scales=1)
    backbone.recipe = Recipe(spacing_mm=(2.5, 2.5, 3.5), patch_size=(64, 64, 32))
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.zero_()
        backbone.first_conv.weight[0, 0, 1, 1, 1] = 1
        network = LinearHead(1, 1, 1)
        low, high = backbone.recipe.window_hu
        network.layers[0].weight.fill_(1000)
        network.layers[0].bias.fill_(-1000 * (threshold_hu - low) / (high - low))
    return backbone.eval(), SegmentationHead(network, {6: "liver"}, fingerprint(backbone))
