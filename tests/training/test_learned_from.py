"""Which CTs a pre-training learns from: all of the cache, but for those that its probe is judged on."""

import pytest

from tests.data.scans import RECIPE, Made, body, labels_for
from vox2vec.data.cache import Cache
from vox2vec.training.learned_from import chosen


def _source(name, count, first=0):
    volumes = {f"{name}{i}": body(first + i) for i in range(count)}
    return Made(volumes, {id: labels_for(volume, 1, 2) for id, volume in volumes.items()}, name=name)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Six CTs cached with labels, as by an evaluation, of which one is there without them too, and five plain."""
    cache = Cache(tmp_path_factory.mktemp("cache"), RECIPE)
    tested, plain = _source("tested", 6), _source("plain", 5, first=10)
    for id in tested.ids:
        cache.store(tested, id, labels=True)
    cache.store(tested, "tested0")
    for id in plain.ids:
        cache.store(plain, id)
    return cache


def test_cts_that_were_cached_with_labels_are_learned_from_each_once(cache):
    found = chosen(cache, None, spare_one=False)
    assert [entry.id for entry in found.learned] == [f"plain{i}" for i in range(5)] + [f"tested{i}" for i in range(6)]
    assert found.told == "11 CTs of 2 data sets"
    assert found.probe is None


def test_the_probes_cts_are_left_out_with_labels_or_without_and_counted(cache):
    probe = _source("tested", 6)
    found = chosen(cache, probe)
    assert [entry.id for entry in found.learned] == [f"plain{i}" for i in range(5)]
    assert found.left_out == 6
    assert found.told == "5 CTs of 1 data sets, without 6 that are the probe's"
    judged = {entry.id for entry in [*found.probe.train, *found.probe.val]}
    assert judged <= set(probe.ids)
    assert all("labels" in entry.files for entry in [*found.probe.train, *found.probe.val])
    assert found.watched in found.probe.val


def test_of_ten_cts_the_last_is_watched_and_not_learned_from_and_of_fewer_it_is_both(tmp_path):
    cache, source = Cache(tmp_path, RECIPE), _source("s", 10)
    for id in source.ids[:9]:
        cache.store(source, id)
    assert chosen(cache, None).watched in chosen(cache, None).learned
    cache.store(source, source.ids[9])
    ten = chosen(cache, None)
    assert (ten.watched.id, len(ten.learned)) == ("s9", 9)
    assert len(chosen(cache, None, spare_one=False).learned) == 10
    assert [entry.id for entry in chosen(cache, None, limit=2).learned] == ["s0", "s1"]


def test_a_cache_that_holds_the_probes_cts_alone_is_refused(tmp_path):
    cache, probe = Cache(tmp_path, RECIPE), _source("tested", 6)
    with pytest.raises(ValueError, match="must hold CTs of"):
        chosen(cache, None)
    for id in probe.ids:
        cache.store(probe, id, labels=True)
    with pytest.raises(ValueError, match="besides the probe's; warm it first"):
        chosen(cache, probe)
