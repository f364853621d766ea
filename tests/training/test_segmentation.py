"""Probing, fine-tuning and from scratch: what learns when, and what stays."""

import copy

import pytest
import pytorch_lightning as pl
import torch

from tests.data.scans import RECIPE, Made, body, labels_for
from vox2vec.data.cache import Cache
from vox2vec.data.datasets import LabelledBatch, LabelledBatches
from vox2vec.nn.fpn import FPN3d
from vox2vec.training.datamodule import CountBatches, EndlessData
from vox2vec.training.heads import fresh_heads, measure_statistics, network_input
from vox2vec.training.keep_best import KeepBest
from vox2vec.training.segmentation import Segmentation


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    cache = Cache(tmp_path_factory.mktemp("cache"), RECIPE)
    volumes = {f"s{i}": body(i) for i in range(3)}
    source = Made(volumes, {id: labels_for(volume, 1, 2) for id, volume in volumes.items()})
    return cache, [cache.store(source, id, labels=True) for id in source.ids]


def _module(kinds=("linear",), **options):
    torch.manual_seed(0)
    backbone = FPN3d(base_channels=2, num_scales=3)
    backbone.recipe = RECIPE
    return Segmentation(backbone, fresh_heads(backbone, 2, kinds, seed=0), [1, 2], **options)


class _States(pl.Callback):
    """The backbone's and the heads' states, and the learning rates, before the first and after each epoch."""

    def __init__(self):
        self.backbones, self.heads, self.rates = [], [], []

    def _take(self, trainer, module):
        self.backbones.append(copy.deepcopy(module.backbone.state_dict()))
        self.heads.append(copy.deepcopy(module.heads.state_dict()))
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    def on_train_start(self, trainer, module):
        self._take(trainer, module)

    def on_train_epoch_end(self, trainer, module):
        self._take(trainer, module)


def _fitted(labelled, module, epochs, *callbacks):
    cache, entries = labelled
    states = _States()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=epochs, limit_train_batches=2, logger=False, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=False, use_distributed_sampler=False,
        callbacks=[CountBatches(), states, *callbacks],
    )  # fmt: skip
    trainer.fit(module, datamodule=EndlessData(LabelledBatches(cache, entries[:2], seed=0, batch_size=2)))
    return states


def _same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.filterwarnings("ignore:Found .* in eval mode", "ignore:.*LeafSpec", "ignore:.*does not have many workers")
class TestTraining:
    def test_probing_changes_the_heads_alone(self, labelled):
        states = _fitted(labelled, _module(("linear", "nonlinear"), frozen_epochs=None), 2)
        assert _same(states.backbones[0], states.backbones[-1])
        for kind in ("linear", "nonlinear"):
            of_kind = [{n: v for n, v in heads.items() if n.startswith(f"{kind}.")} for heads in states.heads]
            assert not _same(of_kind[0], of_kind[-1])

    def test_heads_side_by_side_learn_what_each_learns_alone(self, labelled):
        together = _fitted(labelled, _module(("linear", "nonlinear"), frozen_epochs=None), 2).heads[-1]
        alone = _fitted(labelled, _module(("linear",), frozen_epochs=None), 2).heads[-1]
        for name, value in alone.items():
            torch.testing.assert_close(value, together[name], rtol=0, atol=1e-7)

    def test_fine_tuning_thaws_weights_and_statistics_after_its_epochs_each_at_its_own_rate(self, labelled):
        module = _module(frozen_epochs=2, learning_rate=1e-2, backbone_learning_rate=1e-3)
        states = _fitted(labelled, module, 3)
        assert _same(states.backbones[0], states.backbones[2])
        weights = [n for n in states.backbones[0] if n.endswith("weight")]
        statistics = [n for n in states.backbones[0] if n.endswith("running_mean")]
        for names in (weights, statistics):
            assert any(not torch.equal(states.backbones[2][n], states.backbones[3][n]) for n in names)
        assert states.rates == [[1e-2, 1e-3]] * 4

    def test_rates_that_fall_do_so_by_a_cosine_to_zero_at_the_end(self, labelled):
        module = _module(frozen_epochs=1, learning_rate=1e-2, backbone_learning_rate=1e-3, fall_steps=4)
        halfway, end = _fitted(labelled, module, 2).rates[1:]
        assert halfway == pytest.approx([5e-3, 5e-4])
        assert end == pytest.approx([0, 0], abs=1e-12)

    def test_the_first_thawed_step_is_adams_first_for_the_backbone_and_its_third_for_the_head(self, labelled):
        """A step of Adam is at most its rate, the first exactly so."""
        module = _module(frozen_epochs=1, learning_rate=1e-2, backbone_learning_rate=1e-3)
        states = _fitted(labelled, module, 2)
        optimizer_steps = {
            name: {int(module.trainer.optimizers[0].state[p]["step"]) for p in part.parameters()}
            for name, part in (("backbone", module.backbone), ("heads", module.heads))
        }
        assert optimizer_steps == {"backbone": {2}, "heads": {4}}
        moved = (states.backbones[2]["first_conv.weight"] - states.backbones[1]["first_conv.weight"]).abs().max()
        assert 0 < moved <= 2.1e-3

    def test_from_scratch_everything_learns_at_once(self, labelled):
        states = _fitted(labelled, _module(frozen_epochs=0), 1)
        assert not _same(states.backbones[0], states.backbones[1])

    def test_the_best_epoch_is_kept_of_head_and_backbone(self, labelled):
        cache, entries = labelled
        module = _module(frozen_epochs=0, learning_rate=1e-2)
        best = KeepBest(cache, entries[2:], every_epochs=1)
        truly, given = best.judge(module), iter([0.2, 0.9, 0.4])
        assert 0 <= truly["linear"] <= 1
        best.judge = lambda module: {"linear": next(given)}
        states = _fitted(labelled, module, 3, best)
        best.restore(module)
        assert best.best == {"linear": 0.9}
        assert _same(module.backbone.state_dict(), states.backbones[2])
        assert _same(module.heads.state_dict(), states.heads[2])


def test_a_fresh_network_is_given_the_statistics_of_its_patches_and_keeps_its_weights(labelled):
    cache, entries = labelled
    torch.manual_seed(0)
    backbone = FPN3d(base_channels=2, num_scales=3).eval()
    backbone.recipe = RECIPE
    before = copy.deepcopy(backbone.state_dict())
    batches = LabelledBatches(cache, entries[:2], seed=0, batch_size=2)
    seen = []
    backbone.left_blocks[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    measure_statistics(backbone, batches, count=3)
    assert not backbone.training
    norm = next(module for module in backbone.left_blocks[0].modules() if isinstance(module, torch.nn.BatchNorm3d))
    means = torch.stack([x.mean(dim=(0, 2, 3, 4)) for x in seen])
    variances = torch.stack([x.var(dim=(0, 2, 3, 4)) for x in seen])
    torch.testing.assert_close(norm.running_mean, means.mean(dim=0))
    torch.testing.assert_close(norm.running_var, variances.mean(dim=0), rtol=1e-4, atol=1e-6)
    assert norm.momentum == 0.1
    for name, parameter in backbone.named_parameters():
        assert torch.equal(parameter, before[name])


def test_patches_become_the_networks_input_where_they_are():
    """Meta tensors have no values: a way over the host, as through NumPy, raises."""
    backbone = FPN3d(base_channels=2, num_scales=3).to("meta")
    patches = torch.zeros(2, 1, 8, 8, 8, dtype=torch.int16, device="meta")
    labels = torch.zeros(2, 8, 8, 8, dtype=torch.long, device="meta")
    batch = LabelledBatch(patches, labels, labels.bool(), ["a", "b"])
    assert network_input(batch, backbone).device.type == "meta"


def test_a_learning_backbone_with_two_heads_is_refused():
    with pytest.raises(ValueError, match="one head to learn with"):
        _module(("linear", "nonlinear"), frozen_epochs=3)
