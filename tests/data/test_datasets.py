"""Batches for training: reproducible for any number of workers, resumable at any batch, never ended by one bad CT."""

from itertools import islice

import pytest
import torch
from torch.utils.data import DataLoader

from tests.data.scans import RECIPE, Made, body, labels_for, stored
from vox2vec.data.cache import Cache
from vox2vec.data.datasets import BatchOrder, LabelledBatches, PairBatches, large_enough, one_thread


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("cache"), *(body(seed) for seed in range(5)))


def _pairs(cache, **options):
    return PairBatches(cache, cache.entries(), **{"seed": 0, "batch_size": 4, "patches_per_volume": 4, **options})


def _loader(dataset, order, num_workers=0):
    return DataLoader(dataset, batch_size=None, sampler=order, num_workers=num_workers, worker_init_fn=one_thread)


def _same(one, other):
    return (
        torch.equal(one.patches_hu, other.patches_hu)
        and one.ids == other.ids
        and all(torch.equal(a, b) for a, b in zip(one.voxels, other.voxels, strict=True))
    )


def test_a_batch_holds_pairs_of_whole_patches(cache):
    batch = _pairs(cache)[0]
    assert batch.patches_hu.shape == (2, 4, 1, *RECIPE.patch_size)
    assert batch.patches_hu.dtype == torch.int16
    for i, voxels in enumerate(batch.voxels):
        first, second = (batch.patches_hu[view, i, 0][tuple(voxels[view].T)] for view in (0, 1))
        assert torch.equal(first, second)


def test_any_number_of_workers_gives_the_same_batches(cache):
    alone = list(islice(_loader(_pairs(cache), BatchOrder()), 6))
    shared = list(islice(_loader(_pairs(cache), BatchOrder(), num_workers=2), 6))
    assert all(_same(a, b) for a, b in zip(alone, shared, strict=True))
    assert not any(_same(alone[i], alone[j]) for i in range(6) for j in range(i))


def test_another_seed_gives_other_batches(cache):
    assert not _same(_pairs(cache)[0], _pairs(cache, seed=1)[0])


def test_ranks_share_the_stream_out_and_epochs_go_on_in_it():
    orders = [BatchOrder(rank=rank, world_size=2) for rank in (0, 1)]
    drawn = []
    for order in orders:
        for _ in range(2):
            for batch in islice(order, 3):
                drawn.append(batch)
                order.advance()
    assert sorted(drawn) == list(range(12))


def test_training_resumes_at_the_batch_after_the_last_one_used(cache):
    whole = list(islice(_loader(_pairs(cache), BatchOrder()), 5))
    order = BatchOrder()
    first = []
    for batch in _loader(_pairs(cache), order, num_workers=1):  # the worker has read ahead when training is killed
        first.append(batch)
        order.advance()
        if len(first) == 3:
            break
    resumed = BatchOrder()
    resumed.load_state_dict(order.state_dict())
    rest = list(islice(_loader(_pairs(cache), resumed), 2))
    assert all(_same(a, b) for a, b in zip([*first, *rest], whole, strict=True))


@pytest.mark.parametrize(("patches_per_volume", "ids"), [(4, 1), (2, 2), (1, 4)])
def test_patches_per_volume_says_how_many_cts_make_a_batch(patches_per_volume, ids, cache):
    dataset = _pairs(cache, patches_per_volume=patches_per_volume)
    counts = [len(set(dataset[i].ids)) for i in range(5)]
    assert max(counts) == ids


def test_every_pass_shows_every_ct_once_in_an_order_of_its_own(cache):
    dataset = _pairs(cache, batch_size=1, patches_per_volume=1)
    passes = [[dataset[5 * p + i].ids[0] for i in range(5)] for p in range(4)]
    assert all(sorted(ids) == [f"s{i}" for i in range(5)] for ids in passes)
    assert len({tuple(ids) for ids in passes}) > 1


def test_balanced_data_sets_take_turns_and_each_still_shows_every_ct_once_a_pass(tmp_path):
    cache = Cache(tmp_path, RECIPE)
    many = Made({f"m{i}": body(i) for i in range(3)}, name="many")
    few = Made({"f0": body(7)}, name="few")
    entries = [cache.store(source, id) for source in (many, few) for id in source.ids]
    dataset = PairBatches(cache, entries, seed=0, batch_size=2, patches_per_volume=1, balanced=True)
    batches = [sorted(dataset[i].ids) for i in range(6)]
    assert all(few == "f0" for few, _ in batches)
    assert all(sorted(many for _, many in batches[p : p + 3]) == ["m0", "m1", "m2"] for p in (0, 3))


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_balanced_every_rank_meets_every_data_set_about_equally_often(world_size, tmp_path):
    """Of 60 draws each data set's share is 1/2, its standard deviation 0.065."""
    cache = Cache(tmp_path, RECIPE)
    sources = [Made({f"{name}0": body(i)}, name=name) for i, name in enumerate("ab")]
    entries = [cache.store(source, f"{source.name}0") for source in sources]
    dataset = PairBatches(cache, entries, seed=0, batch_size=1, patches_per_volume=1, max_pairs=1, balanced=True)
    for rank in range(world_size):
        drawn = [dataset[i].ids[0] for i in islice(BatchOrder(rank=rank, world_size=world_size), 60)]
        assert 0.25 < drawn.count("a0") / 60 < 0.75


def test_a_broken_ct_is_skipped_with_a_warning(tmp_path, caplog):
    cache = stored(tmp_path, body(0), body(1))
    entries = cache.entries()
    (tmp_path / "scans" / entries[0].key / "image.b2nd").write_bytes(b"cut")
    dataset = PairBatches(cache, entries, seed=0, batch_size=1, patches_per_volume=1)
    assert {dataset[i].ids[0] for i in range(4)} == {"s1"}
    assert "skipped a CT that cannot be read" in caplog.text
    (tmp_path / "scans" / entries[1].key / "image.b2nd").write_bytes(b"cut")
    with pytest.raises(ValueError, match="none of the 2 cached CTs of made can be read"):
        dataset[0]


def test_cts_smaller_than_a_patch_are_dropped_and_said(tmp_path, caplog):
    cache = stored(tmp_path, body(0), body(1, (12, 11, 9)))
    assert [entry.id for entry in large_enough(cache.entries(), RECIPE.patch_size)] == ["s0"]
    assert "1 of 2 CTs are smaller than a patch" in caplog.text


def test_labelled_batches_hold_one_patch_of_each_ct_drawn(tmp_path):
    volumes = {f"s{i}": body(i) for i in range(3)}
    source = Made(volumes, {id: labels_for(volume, 1, 2) for id, volume in volumes.items()})
    cache = Cache(tmp_path, RECIPE)
    entries = [cache.store(source, id, labels=True) for id in source.ids]
    dataset = LabelledBatches(cache, entries, seed=0, batch_size=3)
    batch, again = dataset[5], LabelledBatches(cache, entries, seed=0, batch_size=3)[5]
    assert batch.patches_hu.shape == (3, 1, *RECIPE.patch_size)
    assert batch.labels.shape == batch.body.shape == (3, *RECIPE.patch_size)
    assert sorted(batch.ids) == ["s0", "s1", "s2"]
    assert torch.equal(batch.patches_hu, again.patches_hu)
    assert torch.equal(batch.labels > 0, (batch.labels > 0) & batch.body)
    with pytest.raises(ValueError, match="must be cached with labels, 1 are not, such as s0"):
        LabelledBatches(cache, [cache.store(source, "s0")], seed=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda cache: PairBatches(cache, [], seed=0), "at least one CT in the cache for this recipe, got none"),
        (lambda cache: _pairs(cache, batch_size=10, patches_per_volume=3), "must divide the batch of 10 pairs, got 3"),
        (lambda cache: LabelledBatches(cache, [], seed=0, batch_size=0), "at least one patch, got batch_size 0"),
        (lambda cache: BatchOrder(rank=2, world_size=2), "rank 2 of 2"),
    ],
)
def test_impossible_streams_are_refused(make, message, cache):
    with pytest.raises(ValueError, match=message):
        make(cache)


def test_workers_compute_in_one_thread():
    threads = torch.get_num_threads()
    try:
        one_thread(0)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
