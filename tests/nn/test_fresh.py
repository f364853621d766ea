"""Fresh networks: decided by their seed alone."""

import torch

from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.fresh import fresh_backbone
from vox2vec.nn.pretrained import fingerprint
from vox2vec.recipe import Recipe

RECIPE = Recipe(spacing_mm=(3.0, 3.0, 3.0), patch_size=(32, 32, 32))


def test_a_seed_gives_the_weights_that_torch_draws_after_it_and_moves_nothing():
    torch.manual_seed(5)
    wanted = FPN3d(base_channels=2, num_scales=3)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    found = fresh_backbone(5, base_channels=2, num_scales=3, recipe=RECIPE)
    assert torch.equal(torch.get_rng_state(), before)
    assert not found.training
    assert found.recipe == RECIPE
    for name, value in wanted.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)


def test_another_seed_gives_another_network():
    one, same, other = (fresh_backbone(seed, base_channels=2, num_scales=2) for seed in (0, 0, 1))
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)
