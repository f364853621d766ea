"""Blur, sharpening, noise and window: equal to scipy patch by patch, as frequent as published, each patch alone."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import binomtest, kstest

from vox2vec.augmentation.axial import axial_blur, axial_sharpening
from vox2vec.augmentation.intensity import draw_intensity, with_intensity


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _patches(n=6, shape=(33, 30, 7)):
    return torch.randint(-1000, 1000, (n, 1, *shape), generator=_generator(1)).to(torch.int16)


def _without_noise(n, seed=0, **options):
    return draw_intensity(n, generator=_generator(seed), noise_probability=0.0, **options)


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.25, 0.7, 1.5, 3.0])
@pytest.mark.parametrize("shape", [(33, 30, 7), (5, 40, 3), (1, 2, 4)])
def test_blur_equals_scipys_in_each_axial_slice(sigma, shape):
    image = torch.randn(shape, generator=_generator()) * 500
    wanted = gaussian_filter(image.double().numpy(), (sigma, sigma, 0))
    np.testing.assert_allclose(axial_blur(image, sigma), wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize("alpha", [10.0, 30.0])
def test_sharpening_equals_its_formula(alpha):
    image = torch.randn((33, 30, 7), generator=_generator()) * 500
    double = image.double().numpy()
    wanted = double + alpha * (double - gaussian_filter(double, (0.5, 0.5, 0)))
    np.testing.assert_allclose(axial_sharpening(image, sigma=0.5, alpha=alpha), wanted, rtol=0, atol=2e-2)


def test_views_equal_a_slow_reference_patch_by_patch():
    """docs/method.md section 3, in float64; noise apart, which is drawn."""
    patches = _patches(12)
    drawn = _without_noise(12)
    views = with_intensity(patches, drawn)
    for i in range(12):
        image = patches[i, 0].double().numpy()
        sigma, alpha = float(drawn.blur_sigma[i]), float(drawn.sharpen_alpha[i])
        if sigma > 0:
            image = gaussian_filter(image, (sigma, sigma, 0))
        if alpha > 0:
            image = image + alpha * (image - gaussian_filter(image, (0.5, 0.5, 0)))
        low, high = drawn.window_hu[i].double().tolist()
        wanted = (image.clip(low, high) - low) / (high - low)
        np.testing.assert_allclose(views[i, 0], wanted, rtol=0, atol=1e-3)
    assert (drawn.sharpen_alpha > 0).any()
    assert ((drawn.sharpen_alpha == 0) & (drawn.blur_sigma > 0)).any()


def test_noise_is_gaussian_of_the_drawn_deviation_and_independent_between_patches():
    drawn = draw_intensity(2, generator=_generator(), filter_probability=0.0, noise_probability=1.0, noise_hu=(20, 20))
    flat = torch.zeros(2, 1, 40, 40, 20)
    noise = with_intensity(flat, drawn) - with_intensity(flat, _without_noise(2, filter_probability=0.0))
    span = drawn.window_hu[:, 1] - drawn.window_hu[:, 0]
    in_hu = [((with_intensity(flat, drawn)[i] * span[i]) + drawn.window_hu[i, 0]).ravel() for i in range(2)]
    for values in in_hu:
        assert kstest(values.double().numpy() / 20, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(in_hu)[0, 1]) < 0.03
    assert noise.abs().max() > 0


@pytest.mark.parametrize(
    ("of", "share"),
    [
        (lambda d: d.blur_sigma > 0, 0.5),
        (lambda d: d.sharpen_alpha > 0, 0.25),
        (lambda d: (d.blur_sigma > 0) & (d.sharpen_alpha == 0), 0.25),
        (lambda d: d.noise_hu > 0, 0.5),
        (lambda d: d.window_hu[:, 0] != -1350, 0.8),
        (lambda d: (d.noise_hu > 0) & (d.blur_sigma > 0), 0.25),
    ],
)
def test_each_step_is_as_frequent_as_published(of, share):
    hits = int(of(draw_intensity(2000, generator=_generator())).sum())
    assert binomtest(hits, 2000, share).pvalue > 1e-3


@pytest.mark.parametrize(
    ("of", "low", "high"),
    [
        (lambda d: d.blur_sigma[(d.blur_sigma > 0) & (d.sharpen_alpha == 0)], 0.25, 1.5),
        (lambda d: d.blur_sigma[d.sharpen_alpha > 0], 0.5, 1.0),
        (lambda d: d.sharpen_alpha[d.sharpen_alpha > 0], 10, 30),
        (lambda d: d.noise_hu[d.noise_hu > 0], 0, 30),
        (lambda d: d.window_hu[d.window_hu[:, 0] != -1350, 0], -1350, -1000),
        (lambda d: d.window_hu[d.window_hu[:, 0] != -1350, 1], 300, 1000),
    ],
)
def test_each_parameter_is_uniform_over_the_published_range(of, low, high):
    values = of(draw_intensity(4000, generator=_generator())).double().numpy()
    assert kstest((values - low) / (high - low), "uniform").pvalue > 1e-3


def test_the_same_seed_gives_the_same_views_and_another_others():
    one, same, other = (with_intensity(_patches(), draw_intensity(6, generator=_generator(seed))) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_patchs_view_does_not_depend_on_its_batch():
    patches, drawn = _patches(), draw_intensity(6, generator=_generator())
    alone = type(drawn)(**{name: value[2:3] for name, value in vars(drawn).items()})
    assert torch.equal(with_intensity(patches, drawn)[2:3], with_intensity(patches[2:3], alone))


def test_views_are_float32_in_0_to_1_and_the_patches_stay_as_they_were():
    patches = _patches()
    before = patches.clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        views = with_intensity(patches, draw_intensity(6, generator=_generator()))
    assert views.dtype == torch.float32
    assert views.min() >= 0
    assert views.max() <= 1
    assert torch.equal(patches, before)


def test_parameters_of_another_number_of_patches_are_refused():
    with pytest.raises(ValueError, match="drawn for each of the 6 patches, got 5"):
        with_intensity(_patches(), draw_intensity(5, generator=_generator()))


@pytest.mark.gpu
def test_a_gpu_gives_the_cpus_views():
    patches, drawn = _patches(), _without_noise(6)
    there = with_intensity(patches.cuda(), drawn).cpu()
    torch.testing.assert_close(there, with_intensity(patches, drawn), rtol=0, atol=1e-3)
