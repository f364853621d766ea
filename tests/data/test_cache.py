"""The cache: what comes out equals what was prepared; what it depends on; what breaks it, and what does not."""

import json
import shutil
import socket
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.scans import RECIPE, Made, body, labels_for, stored
from vox2vec.data.cache import Cache, drop, drop_leftovers, entries_in, problems_in
from vox2vec.data.cached_scan import block_counts, blocks_of
from vox2vec.data.entry import Entry
from vox2vec.geometry import Box
from vox2vec.preprocessing.body import body_mask
from vox2vec.preprocessing.prepare import prepare_hu
from vox2vec.recipe import Recipe
from vox2vec.volume import Volume


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("cache"), body(0), body(1, (50, 44, 35)))


def _whole(scan):
    return Box((0, 0, 0), scan.shape)


def test_a_cached_scan_is_the_prepared_one_in_whole_hu(cache):
    for entry, seed, shape in zip(cache.entries(), (0, 1), ((40, 30, 20), (50, 44, 35)), strict=True):
        prepared = prepare_hu(body(seed, shape), RECIPE)
        scan = cache.open(entry)
        np.testing.assert_array_equal(scan.image_hu(_whole(scan)), prepared.image.round())
        np.testing.assert_array_equal(scan.body(_whole(scan)), body_mask(prepared.image.round()))
        np.testing.assert_allclose(entry.affine, prepared.affine, rtol=0, atol=1e-9)
        assert entry.body_fraction == scan.body(_whole(scan)).mean()
        assert entry.spacing_mm == RECIPE.spacing_mm


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_any_box_is_the_part_of_the_whole_with_air_beyond(cache, data):
    scan = cache.open(cache.entries()[1])
    start = data.draw(st.tuples(*[st.integers(-20, n + 20) for n in scan.shape]))
    size = data.draw(st.tuples(*[st.integers(1, 40)] * 3))
    box = Box(start, tuple(a + b for a, b in zip(start, size, strict=True)))
    for read, fill in ((scan.image_hu, -1024), (scan.body, False)):
        padded = np.pad(read(_whole(scan)), 70, constant_values=fill)
        wanted = padded[tuple(slice(a + 70, b + 70) for a, b in zip(box.start, box.stop, strict=True))]
        np.testing.assert_array_equal(read(box), wanted)


@given(shape=st.tuples(st.integers(1, 150), st.integers(1, 70), st.integers(1, 40)))
@settings(deadline=None, max_examples=20)
def test_blocks_tile_the_grid_and_their_counts_sum_up(shape):
    seen = np.zeros(shape, int)
    for box in blocks_of(shape):
        seen[box.slices] += 1
    assert (seen == 1).all()
    assert block_counts(seen == 1).sum() == np.prod(shape)


def test_ranks_number_every_body_voxel_once(cache):
    entry = cache.entries()[0]
    scan = cache.open(entry)
    voxels = scan.body_voxels(np.arange(entry.body_voxels))
    assert len(np.unique(voxels, axis=0)) == entry.body_voxels
    assert scan.body(_whole(scan))[tuple(voxels.T)].all()


def test_labels_land_on_their_voxels_of_the_grid(tmp_path):
    scan = body(3)
    source = Made({"a": scan}, {"a": labels_for(scan, 1, 2)})
    cache = Cache(tmp_path, RECIPE)
    entry = cache.store(source, "a", labels=True)
    wanted = labels_for(scan, 1, 2).onto(prepare_hu(scan, RECIPE), order=0, fill=0)
    opened = cache.open(entry)
    np.testing.assert_array_equal(opened.labels(_whole(opened)), wanted.image)
    assert set(np.unique(wanted.image)) == {0, 1, 2}
    assert entry.label_names == {"1": "one", "2": "two"}
    unlabelled = cache.open(cache.store(source, "a"))
    with pytest.raises(ValueError, match="a was cached without labels"):
        unlabelled.labels(_whole(unlabelled))
    with pytest.raises(ValueError, match="takes scans with labels"):
        cache.store(Made({"b": scan}), "b", labels=True)


def test_the_key_depends_on_exactly_what_the_files_depend_on(tmp_path, monkeypatch):
    source = Made({"a": body(0), "b": body(1)})
    key = Cache(tmp_path, RECIPE).key(source, "a")
    assert key == Cache(tmp_path / "elsewhere", RECIPE).key(source, "a")
    window = Recipe(spacing_mm=RECIPE.spacing_mm, patch_size=(8, 8, 8), window_hu=(-100, 300))
    assert key == Cache(tmp_path, window).key(source, "a")
    others = {
        "id": Cache(tmp_path, RECIPE).key(source, "b"),
        "file": Cache(tmp_path, RECIPE).key(Made(source.volumes, versions={"a": 1}), "a"),
        "spacing": Cache(tmp_path, Recipe(spacing_mm=(2, 2, 2))).key(source, "a"),
        "threshold": Cache(tmp_path, Recipe(spacing_mm=RECIPE.spacing_mm, body_hu=-400)).key(source, "a"),
        "table": Cache(tmp_path, RECIPE, table=False).key(source, "a"),
        "labels": Cache(tmp_path, RECIPE).key(source, "a", labels=True),
    }
    monkeypatch.setattr("vox2vec.data.cache.FORMAT_VERSION", 2)
    others["format"] = Cache(tmp_path, RECIPE).key(source, "a")
    assert len({key, *others.values()}) == 8


def test_caches_of_two_recipes_share_a_folder_and_see_their_own(tmp_path):
    stored(tmp_path, body(0))
    other = stored(tmp_path, body(0), recipe=Recipe(spacing_mm=(4, 4, 4), patch_size=(8, 8, 8)))
    assert len(entries_in(tmp_path)) == 2
    (entry,) = other.entries()
    assert entry.spacing_mm == (4, 4, 4)


def test_storing_twice_leaves_one_whole_entry_and_the_same_bytes(tmp_path):
    stored(tmp_path, body(0))
    before = _contents(tmp_path)
    stored(tmp_path, body(0))
    assert _contents(tmp_path) == before
    assert problems_in(tmp_path) == []


def test_processes_that_store_the_same_scans_at_once_do_no_harm(tmp_path):
    with get_context("spawn").Pool(2) as pool:
        pool.map(_store_all, [tmp_path] * 2, chunksize=1)
    assert [entry.id for entry in entries_in(tmp_path)] == ["s0", "s1", "s2"]
    assert problems_in(tmp_path) == []
    assert list((tmp_path / "writing").iterdir()) == []


def _store_all(folder):
    stored(folder, body(0), body(1), body(2))


def test_an_entry_that_another_process_drops_first_is_no_error(tmp_path, monkeypatch):
    cache = stored(tmp_path, body(0), body(1))
    first, second = cache.entries()
    read = Entry.read

    def dropped_before_it_is_read(path):
        drop(tmp_path, first.key)
        return read(path)

    monkeypatch.setattr(Entry, "read", dropped_before_it_is_read)
    assert entries_in(tmp_path) == [second]
    drop(tmp_path, first.key)
    assert list((tmp_path / "writing").iterdir()) == []


@pytest.mark.parametrize("name", ["image.b2nd", "body.b2nd", "entry.json"])
@pytest.mark.parametrize("harm", ["cut", "flipped", "gone"])
def test_verify_finds_every_kind_of_damage(name, harm, tmp_path):
    cache = stored(tmp_path, body(0), body(1))
    key = cache.entries()[0].key
    path = tmp_path / "scans" / key / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    {"cut": lambda: path.write_bytes(data[:50]), "gone": path.unlink, "flipped": lambda: path.write_bytes(data)}[harm]()
    problems = problems_in(tmp_path)
    assert {found for found, _ in problems} == {key}
    assert name in problems[0][1]
    drop(tmp_path, key)
    assert problems_in(tmp_path) == []
    assert [entry.id for entry in cache.entries()] == ["s1"]


def test_a_missing_file_is_refused_when_opened(tmp_path):
    cache = stored(tmp_path, body(0))
    (entry,) = cache.entries()
    (tmp_path / "scans" / entry.key / "body.b2nd").unlink()
    with pytest.raises(ValueError, match="must be a whole file of a cache"):
        cache.open(entry)


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    writing = tmp_path / "writing"
    cache = Cache(tmp_path, RECIPE)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (
        f"{socket.gethostname()}-{dead.pid}-abc",
        f"{socket.gethostname()}-1-abc",
        "elsewhere-7-x",
        "dropped-k",
    ):
        (writing / name).mkdir(parents=True)
    assert drop_leftovers(cache.folder) == 2
    assert {p.name for p in writing.iterdir()} == {f"{socket.gethostname()}-1-abc", "elsewhere-7-x"}


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="no /proc: zombies count as alive")
def test_a_writer_that_ended_is_dead_even_before_its_parent_asks(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    stat = Path(f"/proc/{process.pid}/stat")
    while stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z":
        pass
    (tmp_path / "writing" / f"{socket.gethostname()}-{process.pid}-abc").mkdir(parents=True)
    assert drop_leftovers(tmp_path) == 1
    process.wait()


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (Volume(np.full((9, 8, 7), -1000, np.int16), np.eye(4)), "must hold a body"),
        (Volume(np.full((9, 8, 7), np.nan, np.float32), np.eye(4)), "must hold finite HU"),
    ],
)
def test_scans_that_cannot_be_prepared_leave_nothing_behind(volume, message, tmp_path):
    cache = Cache(tmp_path, RECIPE)
    with pytest.raises(ValueError, match=message):
        cache.store(Made({"a": volume}), "a")
    assert entries_in(tmp_path) == []


def test_hu_beyond_int16_are_clipped_not_wrapped(tmp_path):
    scan = body(0)
    image = scan.image.astype(np.float32)
    image[20, 15, 10] = 1e6
    cache = Cache(tmp_path, RECIPE)
    opened = cache.open(cache.store(Made({"a": Volume(image, scan.affine)}), "a"))
    assert opened.image_hu(_whole(opened)).max() == 32767


def test_a_full_disk_is_an_error_that_leaves_the_cache_valid(tmp_path):
    """On a file system of one megabyte, where that can be mounted, else by the limit of a file's size."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)], capture_output=True)
    limit = "" if mounted.returncode == 0 else "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20000,)*2)"
    code = f"""
{limit}
from pathlib import Path
from tests.data.scans import Made, RECIPE, body
from vox2vec.data.cache import Cache
from vox2vec.data.warm_up import warm_up
sizes = {{"a": (12, 10, 8), "b": (90, 80, 60), "c": (90, 80, 70), "d": (12, 10, 9)}}
source = Made({{id: body(0, size) for id, size in sizes.items()}})
try:
    warm_up(Cache(Path({str(small)!r}), RECIPE), [source], num_workers=0, progress=False)
except OSError as error:
    print(error)
"""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
        )
        assert f"the disk of {small} is full; free some, then run again" in done.stdout
        assert problems_in(small) == []
        assert [entry.id for entry in entries_in(small)] == ["a"]
        assert list((small / "writing").iterdir()) == []
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", str(small)], check=True)


def test_an_entry_of_another_format_is_refused(tmp_path):
    stored(tmp_path, body(0))
    (path,) = (tmp_path / "scans").glob("*/entry.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "red"}))
    with pytest.raises(ValueError, match="must be an entry of a vox2vec cache"):
        entries_in(tmp_path)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.b2nd")}


def test_a_cache_moved_elsewhere_still_opens(tmp_path):
    cache = stored(tmp_path / "a", body(0))
    before = cache.open(cache.entries()[0]).body(Box((0, 0, 0), (5, 5, 5)))
    shutil.move(tmp_path / "a", tmp_path / "b")
    moved = Cache(tmp_path / "b", RECIPE)
    np.testing.assert_array_equal(moved.open(moved.entries()[0]).body(Box((0, 0, 0), (5, 5, 5))), before)
