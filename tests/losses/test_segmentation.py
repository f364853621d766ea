"""BCE and Dice inside the body: the original's numbers, and its formula."""

import numpy as np
import pytest
import torch

from vox2vec.losses.segmentation import bce_dice


@pytest.fixture(scope="module")
def arrays(original):
    with np.load(original / "reference.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files if name.startswith("seg/")}


def test_loss_and_gradient_equal_the_originals(arrays):
    logits = arrays["seg/logits"].clone().requires_grad_()
    loss = bce_dice(logits, arrays["seg/gt"], arrays["seg/roi"])
    torch.testing.assert_close(loss, arrays["seg/loss"], rtol=0, atol=1e-6)
    loss.backward()
    torch.testing.assert_close(logits.grad, arrays["seg/grad"], rtol=0, atol=1e-6)
    everywhere = torch.ones_like(arrays["seg/roi"])
    whole = bce_dice(arrays["seg/logits"], arrays["seg/gt"], everywhere)
    torch.testing.assert_close(whole, arrays["seg/loss_no_roi"], rtol=0, atol=1e-6)


def _problem(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 4, 3, 2, generator=generator, dtype=torch.float64)
    targets = torch.randint(2, logits.shape, generator=generator).double()
    return logits, targets, torch.rand(2, 4, 3, 2, generator=generator) < 0.7


def test_it_equals_the_formula_voxel_by_voxel():
    logits, targets, body = _problem()
    entropy, dice = [], []
    for n in range(2):
        for c in range(3):
            p, t = logits[n, c][body[n]].sigmoid(), targets[n, c][body[n]]
            entropy += (-(t * p.log() + (1 - t) * (1 - p).log())).tolist()
            dice.append(float(2 * (p * t).sum() / ((p**2).sum() + (t**2).sum() + 1)))
    assert bce_dice(logits, targets, body).item() == pytest.approx(np.mean(entropy) + 1 - np.mean(dice), abs=1e-12)


def test_its_gradient_passes_gradcheck_and_stays_inside_the_body():
    logits, targets, body = _problem()
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: bce_dice(x, targets, body), [logits])
    (gradient,) = torch.autograd.grad(bce_dice(logits, targets, body), logits)
    assert (gradient.movedim(1, -1)[~body] == 0).all()


def test_a_patch_without_body_gives_a_finite_loss():
    logits, targets, body = _problem()
    assert torch.isfinite(bce_dice(logits, targets, torch.zeros_like(body)))
