"""The module of pre-training: what it computes, that it learns, and that it stops on nonsense."""

import json

import pytest
import torch
from torch import nn

from tests.data.scans import RECIPE, body, stored
from vox2vec.augmentation.intensity import draw_intensity, with_intensity
from vox2vec.data.datasets import PairBatches
from vox2vec.losses.contrastive import info_nce
from vox2vec.losses.vicreg import vicreg
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.pyramid import sample_pyramid
from vox2vec.training.pretraining import Pretraining, SpatialRanges, described

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log:UserWarning")


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    cache = stored(tmp_path_factory.mktemp("cache"), *(body(seed) for seed in range(3)))
    return PairBatches(cache, cache.entries(), seed=0, batch_size=3, patches_per_volume=1, max_pairs=40)


def _module(**options):
    torch.manual_seed(0)
    backbone = FPN3d(base_channels=2, num_scales=3)
    backbone.recipe = RECIPE
    return Pretraining(backbone, **options)


def test_a_step_is_the_loss_of_both_views_voxels_each_view_by_itself(batches):
    batch, module = batches[0], _module()
    _, embeddings = module.embedded(batch)
    slow = _module()
    generator = torch.Generator().manual_seed((0 * 1_000_003 + 0 * 7_919 + 12_345) % 2**63)
    for view in (0, 1):
        drawn = draw_intensity(3, generator=generator, full_window_hu=RECIPE.window_hu)
        pyramid = slow.backbone(with_intensity(batch.patches_hu[view], drawn))
        vectors = [sample_pyramid([level[i] for level in pyramid], batch.voxels[i][view]) for i in range(3)]
        torch.testing.assert_close(embeddings[view], slow.proj_head(torch.cat(vectors)))
    torch.testing.assert_close(module.loss_of(embeddings), info_nce(*embeddings))


def test_micro_batches_have_the_loss_and_gradients_of_all_voxels_together(batches):
    """The slow way: every part through the network with its activations kept, one loss over all; running statistics
    see each part once."""
    batch, module, slow = batches[0], _module(micro_batch_size=2), _module()
    embeddings = module.embedded(batch)[1]
    module.loss_of(embeddings).backward()
    views, voxels = slow._views(batch, torch.Generator().manual_seed(12_345))
    parts = []
    for view, places in zip(views, voxels, strict=True):
        pyramids = [slow.backbone(view[:2]), slow.backbone(view[2:])]
        of_each = [[level[i] for level in pyramids[0]] for i in (0, 1)] + [[level[0] for level in pyramids[1]]]
        vectors = [sample_pyramid(maps, v) for maps, v in zip(of_each, places, strict=True)]
        parts.append(torch.cat([slow.proj_head(torch.cat(vectors[:2])), slow.proj_head(torch.cat(vectors[2:]))]))
    info_nce(*parts).backward()
    for (name, one), other in zip(module.named_parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5, msg=name)
    for (name, one), other in zip(module.named_buffers(), slow.buffers(), strict=True):
        torch.testing.assert_close(one, other, msg=name)


def test_micro_batches_keep_no_activations(batches):
    def kept(**options):
        numbers = []
        module = _module(**options)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: numbers.append(t.numel()) or t, lambda t: t):
            module.loss_of(module.embedded(batches[0])[1])
        return sum(numbers)

    assert kept(micro_batch_size=1) < kept() / 5


def test_the_memory_format_changes_nothing_but_the_time(batches):
    one, other = (_module(channels_last=last).embedded(batches[0])[1][0] for last in (True, False))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=5e-5)  # of unit vectors


def test_vicreg_is_an_objective_with_an_expander(batches):
    module = _module(objective="vicreg", expander_width=32)
    _, embeddings = module.embedded(batches[0])
    assert embeddings[0].shape[1] == 32
    torch.testing.assert_close(module.loss_of(embeddings), vicreg(*embeddings))


@pytest.mark.parametrize("objective", ["contrastive", "vicreg"])
def test_the_loss_falls(objective, batches):
    module = _module(objective=objective, expander_width=64)
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
    losses = []
    for step in range(12):
        loss = module.loss_of(module.embedded(batches[step % 2])[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


def test_the_same_batch_is_augmented_alike_and_another_differently(batches):
    one, same = (_module().embedded(batches[0])[1][0] for _ in range(2))
    assert torch.equal(one, same)
    assert not torch.equal(one, _module(seed=1).embedded(batches[0])[1][0])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_views_laid_anew_in_space_keep_their_voxels_together(axis, batches, monkeypatch):
    """On images whose value is the place in the scan, both views read the same place, to the nearest voxel of each."""
    batch = batches[0]
    ramp = torch.arange(RECIPE.patch_size[axis]).reshape([-1 if i == axis else 1 for i in range(3)])
    patches = ramp.expand(2, 3, 1, *RECIPE.patch_size).clone().to(torch.int16)
    for i, (first, second) in enumerate(batch.voxels):
        patches[1, i] += (first - second)[0, axis].to(torch.int16)
    monkeypatch.setattr("vox2vec.training.pretraining.with_intensity", lambda laid, drawn: laid)
    monkeypatch.setattr("vox2vec.training.pretraining.AIR_HU", 0)
    module = _module(spatial=SpatialRanges(flip_probability=0.5, rotation_deg=10, scale=(0.9, 1.1)))

    def read(values):
        views, voxels = module._views(batch._replace(patches_hu=values), torch.Generator().manual_seed(0))
        assert [len(v) for v in voxels[0]] == [len(v) for v in voxels[1]]
        return [
            torch.cat([view[i, 0][tuple(v.T)] for i, v in enumerate(vs)])
            for view, vs in zip(views, voxels, strict=True)
        ]

    inside = torch.stack(read(torch.ones_like(patches))).amin(dim=0) > 1 - 1e-4  # no air mixes in
    first, second = read(patches)
    assert inside.float().mean() > 0.5
    assert (first - second)[inside].abs().max() < 1.5


def test_a_step_goes_through_space_too(batches):
    module, batch = _module(spatial=SpatialRanges(flip_probability=0.5, rotation_deg=10, scale=(0.9, 1.1))), batches[0]
    levels, embeddings = module.embedded(batch)
    assert len(embeddings[0]) == len(embeddings[1]) == len(levels[0])


def test_a_loss_that_is_not_finite_stops_and_names_its_cts(batches, tmp_path):
    module = _module(failure_path=tmp_path / "failed.json")
    with torch.no_grad():
        module.backbone.first_conv.weight.fill_(torch.nan)
    batch = batches[2]
    with pytest.raises(FloatingPointError, match="the loss is nan at step 0; its CTs are in"):
        module.training_step(batch, 0)
    written = json.loads((tmp_path / "failed.json").read_text())
    assert written == {"batch": 2, "ids": batch.ids, "loss": "nan"}


def test_the_embeddings_are_described_by_names_a_person_knows(batches):
    levels, embeddings = _module().embedded(batches[0])
    told = described(levels, embeddings)
    assert {f"spread/effective_rank_{i}" for i in range(3)} <= set(told)
    assert -1 <= told["spread/negative_similarity"] <= told["spread/positive_similarity"] <= 1
    same = described(levels, (embeddings[0], embeddings[0]))
    assert same["spread/alignment"] == pytest.approx(0, abs=1e-6)
    assert same["spread/positive_similarity"] == pytest.approx(1)


def test_adamw_warms_up_and_falls_to_zero():
    module = _module(optimizer="adamw", learning_rate=1e-2, warmup_steps=10, max_steps=50)
    configured = module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(50):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] < 1e-4
    assert max(rates) == pytest.approx(1e-2)
    assert rates.index(max(rates)) == 10
    assert rates[-1] < 1e-4


def test_adamw_shrinks_matrices_and_kernels_and_leaves_norms_and_biases():
    """Without a gradient a step is the decay alone: `w (1 - rate * decay)`, Loshchilov and Hutter, arXiv 1711.05101."""
    module = _module(optimizer="adamw", learning_rate=0.1, weight_decay=0.5, warmup_steps=0)
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer = module.configure_optimizers()["optimizer"]
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.step()
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    kept = {id(parameter) for norm in norms for parameter in norm.parameters()}
    for name, parameter in module.named_parameters():
        share = 1.0 if id(parameter) in kept or name.endswith("bias") else 1 - 0.1 * 0.5
        torch.testing.assert_close(parameter.detach(), before[name] * share, msg=name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "simclr"}, 'must be "contrastive" or "vicreg"'),
        ({"optimizer": "sgd"}, 'must be "adam" or "adamw"'),
        ({"micro_batch_size": 0}, "micro_batch_size must be at least one pair, got 0"),
    ],
)
def test_unknown_choices_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        _module(**options)
