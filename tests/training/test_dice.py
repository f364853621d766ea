"""The official Dice by slabs: the whole volume's formula, in a fraction of its memory."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
from torch import nn

from tests.data.scans import Made
from tests.inference.whole import class_probabilities
from vox2vec.data.cache import Cache
from vox2vec.geometry import Box
from vox2vec.metrics.overlap import dice
from vox2vec.nn.fresh import fresh_backbone
from vox2vec.recipe import Recipe
from vox2vec.training.dice import dice_tables
from vox2vec.training.heads import fresh_heads
from vox2vec.volume import Volume

TALL = Recipe(spacing_mm=(1, 1, 1), patch_size=(16, 16, 8))


@pytest.fixture(scope="module")
def tall(tmp_path_factory):
    """Two bodies of 20x20x120 voxels; the first lacks label 3."""
    cache = Cache(tmp_path_factory.mktemp("cache"), TALL, table=True)
    volumes, labels = {}, {}
    for i, id in enumerate("ab"):
        rng = np.random.default_rng(i)
        image = rng.integers(0, 200, (20, 20, 120)).astype(np.int16)
        volumes[id] = Volume(image, np.eye(4))
        labels[id] = Volume(rng.integers(0, 3 + i, image.shape).astype(np.uint8), np.eye(4))
    source = Made(volumes, labels)
    entries = [cache.store(source, id, labels=True) for id in source.ids]
    return cache, entries, fresh_backbone(0, base_channels=2, num_scales=2, recipe=TALL)


def test_slabs_give_the_dice_of_the_whole_volume(tall):
    cache, entries, backbone = tall
    numbers = [1, 2, 3]
    heads = nn.ModuleDict(fresh_heads(backbone, 3, ("linear", "nonlinear"), seed=0)).eval()
    found = dice_tables(cache, entries, backbone, heads, numbers)
    for row, entry in enumerate(entries):
        scan = cache.open(entry)
        whole = Box((0, 0, 0), scan.shape)
        parts = class_probabilities(scan.image_hu(whole), scan.body(whole), backbone, list(heads.values()))
        for name, classes in zip(heads, parts, strict=True):
            masks = [(mask, scan.labels(whole) == n) for mask, n in zip(classes >= 0.5, numbers, strict=True)]
            np.testing.assert_allclose(found[name][row], [dice(*pair) for pair in masks])
    assert math.isnan(found["linear"][0, 2])
    assert found["linear"][1, 2] >= 0
    assert max(np.nanmax(table) for table in found.values()) > 0.1


def test_the_classes_of_a_tall_scan_are_never_held_at_once(tall):
    cache, entries, backbone = tall
    count = 60
    heads = nn.ModuleDict(fresh_heads(backbone, count, ("linear",), seed=0)).eval()
    whole = count * 4 * np.prod(entries[0].shape)
    dice_tables(cache, entries[:1], backbone, heads, range(1, count + 1))  # whatever is loaded once
    tracemalloc.start()
    with torch.inference_mode():
        dice_tables(cache, entries[:1], backbone, heads, range(1, count + 1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * whole
