"""The online probe: it learns, it reads the features as they are, and leaves no trace on the backbone."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from tests.data.scans import RECIPE, Made, body, labels_for
from vox2vec.data.cache import Cache
from vox2vec.data.datasets import LabelledBatches
from vox2vec.geometry import Box
from vox2vec.nn.fpn import FPN3d
from vox2vec.training import online_probe
from vox2vec.training.heads import one_hot
from vox2vec.training.online_probe import OnlineProbe


class _Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = FPN3d(base_channels=2, num_scales=3)
        self.backbone.recipe = RECIPE


def _trainer():
    return pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    cache = Cache(tmp_path_factory.mktemp("cache"), RECIPE)
    volumes = {f"s{i}": body(i) for i in range(3)}
    source = Made(volumes, {id: labels_for(volume, 1, 2) for id, volume in volumes.items()})
    return cache, [cache.store(source, id, labels=True) for id in source.ids]


def _probe(labelled, module, **options):
    cache, entries = labelled
    probe = OnlineProbe(cache, entries[:2], entries[2:], {1: "one", 2: "two"}, batch_size=2, **options)
    probe.on_fit_start(_trainer(), module)
    return probe


def test_it_leaves_no_gradient_no_statistics_and_no_mode_behind(labelled):
    module = _Module()
    before = {name: value.clone() for name, value in module.backbone.state_dict().items()}
    probe = _probe(labelled, module)
    module.backbone.train()
    probe.train_heads(module.backbone)
    probe.judge(module.backbone)
    assert all(parameter.grad is None for parameter in module.backbone.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.backbone.state_dict().items())
    assert module.backbone.training


def test_its_heads_learn(labelled):
    module = _Module()
    probe = _probe(labelled, module, learning_rate=3e-2)
    losses = [probe.train_heads(module.backbone) for _ in range(30)]
    for name in ("linear", "nonlinear"):
        assert np.mean([loss[name] for loss in losses[-5:]]) < np.mean([loss[name] for loss in losses[:5]])


def test_dice_is_that_of_whole_scans_and_absent_structures_have_none(labelled):
    cache, entries = labelled
    module = _Module()
    probe = OnlineProbe(cache, entries[:2], entries[2:], {1: "one", 2: "two", 9: "absent"}, batch_size=2)
    probe.on_fit_start(_trainer(), module)
    with torch.no_grad():  # heads that find class one everywhere, and nothing else
        for parameter in probe.heads.parameters():
            parameter.zero_()
        probe.heads["linear"].layers[0].bias.copy_(torch.tensor([5.0, -5.0, -5.0]))
    scores = probe.judge(module.backbone)["linear"]
    scan = cache.open(entries[2])
    whole = Box((0, 0, 0), scan.shape)
    one, inside = scan.labels(whole) == 1, scan.body(whole)
    assert scores["one"] == pytest.approx(2 * (one & inside).sum() / (one.sum() + inside.sum()))
    assert scores["two"] == 0
    assert "absent" not in scores
    assert scores["dice"] == pytest.approx((scores["one"] + scores["two"]) / 2)


def test_it_resumes_as_if_it_had_never_stopped(labelled):
    module = _Module()
    whole = _probe(labelled, module)
    for _ in range(2):
        whole.train_heads(module.backbone)
    resumed = OnlineProbe(labelled[0], labelled[1][:2], labelled[1][2:], {1: "one", 2: "two"}, batch_size=2)
    state = {**whole.state_dict(), "heads": {k: v.clone() for k, v in whole.heads.state_dict().items()}}
    resumed.load_state_dict(state)
    resumed.on_fit_start(_trainer(), module)
    assert resumed.train_heads(module.backbone) == whole.train_heads(module.backbone)


class _ReadBy(LabelledBatches):
    """Its batches are of "CTs" named by the process that read them."""

    def __getitem__(self, index):
        return super().__getitem__(index)._replace(ids=[str(os.getpid())])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_its_patches_are_read_in_a_process_of_their_own_and_are_the_same(num_workers, labelled, monkeypatch):
    module, seen = _Module(), []
    losses = online_probe.head_losses
    monkeypatch.setattr(online_probe, "LabelledBatches", _ReadBy)
    monkeypatch.setattr(online_probe, "head_losses", lambda *a, **k: seen.append(a[3]) or losses(*a, **k))
    probe = _probe(labelled, module, num_workers=num_workers)
    for _ in range(2):
        probe.train_heads(module.backbone)
    assert all((batch.ids == [str(os.getpid())]) == (num_workers == 0) for batch in seen)
    batches = LabelledBatches(labelled[0], labelled[1][:2], seed=0, batch_size=2)
    for i, batch in enumerate(seen):
        assert torch.equal(batch.patches_hu, batches[i].patches_hu)
    probe.teardown(_trainer(), module, "fit")


def test_of_several_ranks_the_first_alone_trains_and_judges_it(labelled, unchecked_shapes):
    module, cache, entries = _Module(), *labelled
    probe = OnlineProbe(cache, entries[:2], entries[2:], {1: "one"}, every_epochs=1)
    second = SimpleNamespace(is_global_zero=False, current_epoch=0)
    probe.on_fit_start(second, module)
    probe.on_train_batch_end(second, module, None, None, 0)  # without a trainer, whatever is logged raises
    probe.on_train_epoch_end(second, module)
    assert len(probe.heads) == 0
    assert probe.state_dict() == {}


def test_classes_are_told_apart_by_number():
    labels = torch.tensor([0, 3, 7, 3]).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(one_hot(labels, [3, 7])[0, :, :, :, 0], [[[0, 1], [0, 1]], [[0, 0], [1, 0]]])


@pytest.mark.parametrize(
    ("train", "val", "names", "message"),
    [
        (slice(0, 2), slice(1, 3), {1: "one"}, "1 are in both lists"),
        (slice(0, 2), slice(2, 3), {}, "got no label names"),
    ],
)
def test_a_probe_that_would_cheat_or_find_nothing_is_refused(train, val, names, message, labelled):
    cache, entries = labelled
    with pytest.raises(ValueError, match=message):
        OnlineProbe(cache, entries[train], entries[val], names)
