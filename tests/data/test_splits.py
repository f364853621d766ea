"""The paper's folds, to the id."""

import json

import pytest

from vox2vec.data.splits import published_split


@pytest.mark.parametrize("fold", range(5))
def test_folds_equal_the_published_ones(fold, shared):
    wanted = json.loads((shared / "reference" / "btcv_splits.json").read_text())[str(fold)]
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
    ("count", "fold", "message"), [(30, 5, "must be 0 to 4, got 5"), (4, 0, "need more scans, got 4")]
)
def test_impossible_splits_are_refused(count, fold, message):
    with pytest.raises(ValueError, match=message):
        published_split([str(i) for i in range(count)], fold)
