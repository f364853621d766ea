"""The paper's folds, to the id."""

import json
from itertools import pairwise

import pytest

from vox2vec.data.splits import Split, chosen_splits, few_shot, patient_of, published_split, splits_from_file


@pytest.mark.parametrize("fold", range(5))
def test_folds_equal_the_published_ones(fold, original):
    wanted = json.loads((original / "btcv_splits.json").read_text())[str(fold)]
    ids = wanted["train"] + wanted["val"] + wanted["test"]
    split = published_split(ids, fold)
    assert set(split.train) == set(wanted["train"])
    assert list(split.val) == wanted["val"]
    assert sorted(split.test) == sorted(wanted["test"])


def test_folds_share_no_patient_and_cover_all():
    ids = [f"p{i}" for i in range(23)]
    splits = [published_split(ids, fold, num_val=3) for fold in range(5)]
    assert sorted(id for split in splits for id in split.test) == sorted(ids)
    for split in splits:
        assert sorted(split.train + split.val + split.test) == sorted(ids)
        assert len(split.val) == 3


@pytest.mark.parametrize(
    ("count", "fold", "message"), [(30, 5, "must be 0 to 4, got 5"), (4, 0, "need more patients, got 4")]
)
def test_impossible_splits_are_refused(count, fold, message):
    with pytest.raises(ValueError, match=message):
        published_split([str(i) for i in range(count)], fold)


def test_scans_of_one_patient_stay_together():
    ids = [f"p{i}/{scan}" for i in range(9) for scan in ("before", "after")[: 1 + i % 2]]
    for fold in range(5):
        split = published_split(ids, fold, num_val=2)
        patients = [{patient_of(id) for id in part} for part in (split.train, split.val, split.test)]
        assert sum(map(len, patients)) == len(set.union(*patients)) == 9
        assert sorted(split.train + split.val + split.test) == sorted(ids)


def test_few_shots_of_one_seed_are_nested_and_touch_nothing_else():
    split = published_split([f"p{i}" for i in range(20)], 1)
    drawn = [few_shot(split, size, seed=3) for size in (1, 4, 9)]
    for smaller, larger in pairwise(drawn):
        assert set(smaller.train) < set(larger.train) <= set(split.train)
        assert (smaller.val, smaller.test) == (split.val, split.test)
    assert {few_shot(split, 4, seed=seed).train for seed in range(5)} != {drawn[1].train}


def test_ones_own_splits_are_read(tmp_path):
    path = tmp_path / "splits.json"
    path.write_text('{"there": {"train": ["a"], "val": [], "test": ["b"]}}')
    assert splits_from_file(path, ["a", "b"]) == {"there": Split(("a",), (), ("b",))}


def test_the_published_folds_are_chosen_unless_others_are_given(tmp_path):
    ids = [f"p{i}" for i in range(20)]
    published = {str(fold): published_split(ids, fold, num_val=2) for fold in range(5)}
    assert chosen_splits(ids, num_val=2) == published
    assert chosen_splits(ids, split="3", num_val=2) == {"3": published["3"]}
    few = chosen_splits(ids, split="3", num_val=2, train_size=4, seed=1)
    assert few == {"3": few_shot(published["3"], 4, seed=1)}
    own = {"mine": Split(("p0",), (), ("p1",))}
    (tmp_path / "splits.json").write_text('{"mine": {"train": ["p0"], "val": [], "test": ["p1"]}}')
    assert chosen_splits(ids, splits=own) == chosen_splits(ids, splits=tmp_path / "splits.json") == own
    with pytest.raises(ValueError, match="the split must be one of mine, or all; got '0'"):
        chosen_splits(ids, split="0", splits=own)
    with pytest.raises(ValueError, match="split mine must keep each patient in one part"):
        chosen_splits(["p/1", "p/2"], splits={"mine": Split(("p/1",), (), ("p/2",))})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no JSON", "splits must be JSON like"),
        ('{"0": ["a"]}', "splits must be JSON like"),
        ('{"0": {"train": ["a"], "test": ["b"]}}', "splits must be JSON like"),
        ('{"0": {"train": ["a"], "val": [], "test": ["x"]}}', "must name scans that are there, .'x'. are not"),
        ('{"0": {"train": ["p/1"], "val": [], "test": ["p/2"]}}', "must keep each patient in one part"),
        ('{"0": {"train": ["a"], "val": ["b"], "test": []}}', "must have scans to train on and to test on"),
    ],
)
def test_splits_that_cannot_be_are_refused(text, message, tmp_path):
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        splits_from_file(tmp_path / "splits.json", ["a", "b", "p/1", "p/2"])


@pytest.mark.parametrize("size", [0, 16])
def test_a_few_shot_beyond_the_split_is_refused(size):
    split = published_split([f"p{i}" for i in range(20)], 1)
    with pytest.raises(ValueError, match=f"must be 1 to the 15 scans of the split, got {size}"):
        few_shot(split, size, seed=0)
