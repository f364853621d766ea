"""The most similar places of many CTs: equal to looking at every vector, whole after a kill, of one network only."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.inference.scans import blob, tiny_backbone
from vox2vec.data.entry import Entry
from vox2vec.inference.embed import Embedder, embed
from vox2vec.inference.embedding import packed
from vox2vec.matching import retrieval as module
from vox2vec.matching.retrieval import Place, PlaceIndex, write_places


@pytest.fixture(scope="module")
def embeddings():
    backbone = tiny_backbone((16, 16, 8))
    return {
        name: embed(blob(shape, seed), backbone, precision="32", device="cpu", dtype=torch.float32, progress=False)
        for name, shape, seed in (("a", (30, 21, 15), 0), ("b", (27, 33, 19), 1), ("c", (20, 20, 20), 2))
    }


@pytest.fixture
def index(embeddings, tmp_path):
    index = PlaceIndex(tmp_path, embeddings["a"].fingerprint, every_mm=4)
    for key, embedding in embeddings.items():
        index.add(key, embedding)
    return index


@pytest.mark.parametrize("rows", [2**14, 100])
def test_the_best_places_are_those_of_every_vector(embeddings, index, rows, monkeypatch):
    monkeypatch.setattr(module, "_ROWS", rows)
    vector = embeddings["c"].at(embeddings["c"].grid.to_mm([[9, 11, 7]]))[0]
    found = index.search(vector, count=40, apart_mm=0)
    everything = []
    for key, embedding in embeddings.items():
        steps = [max(1, round(4 / s)) for s in embedding.grid.spacing_mm]
        lattice = [range(step // 2, n, step) for step, n in zip(steps, embedding.shape, strict=True)]
        points = embedding.grid.to_mm(np.stack(np.meshgrid(*lattice, indexing="ij"), axis=-1).reshape(-1, 3))
        similar = torch.nn.functional.cosine_similarity(embedding.at(points), vector[None], dim=1)
        everything += [(float(s), key, tuple(p)) for s, p in zip(similar, points, strict=True) if bool(s.isfinite())]
    everything.sort(reverse=True)
    np.testing.assert_allclose([p.score for p in found], [s for s, _, _ in everything[:40]], atol=2e-3)
    by_place = {(key, tuple(np.round(point, 3))): score for score, key, point in everything}
    for place in found:
        assert by_place[place.key, tuple(np.round(place.point_mm, 3))] == pytest.approx(place.score, abs=2e-3)


def test_places_of_one_ct_lie_apart_and_others_can_be_left_out(embeddings, index):
    vector = embeddings["a"].at(embeddings["a"].grid.to_mm([[9, 11, 7]]))[0]
    found = index.search(vector, count=12, apart_mm=15)
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)
    for key in "abc":
        points = np.array([p.point_mm for p in found if p.key == key]).reshape(-1, 3)
        apart = np.linalg.norm(points[:, None] - points[None], axis=2) + 1e3 * np.eye(len(points))
        assert (apart >= 15).all()
    assert {p.key for p in index.search(vector, among={"b", "c"})} <= {"b", "c"}


def test_a_ct_is_in_the_index_whole_or_not_at_all(embeddings, tmp_path, monkeypatch):
    index = PlaceIndex(tmp_path, embeddings["a"].fingerprint, every_mm=4)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.json, "dumps", killed)
        with pytest.raises(KeyboardInterrupt):
            index.add("a", embeddings["a"])
    assert "a" not in index
    assert index.keys == []
    index.add("a", embeddings["a"])
    assert index.keys == PlaceIndex(tmp_path, embeddings["a"].fingerprint, every_mm=4).keys == ["a"]
    assert PlaceIndex(tmp_path, "another network", every_mm=4).keys == []


def test_what_cannot_be_indexed_or_asked_is_refused(embeddings, index, tmp_path):
    embedding = embeddings["a"]
    with pytest.raises(ValueError, match="the embedding of"):
        PlaceIndex(tmp_path, "other").add("a", embedding)
    with pytest.raises(ValueError, match="no body voxel on a lattice"):
        index.add("d", replace(embedding, packed_body=packed(np.zeros(embedding.shape, bool))))
    with pytest.raises(ValueError, match="holds NaN"):
        index.search(torch.full((embedding.num_channels,), torch.nan))
    with pytest.raises(ValueError, match=r"the vector must be"):
        index.search(torch.ones(3))
    with pytest.raises(ValueError, match="every_mm must be positive"):
        PlaceIndex(tmp_path, "other", every_mm=0)
    with pytest.raises(ValueError, match="count must be at least 1"):
        index.search(torch.ones(embedding.num_channels), count=0)


def _embedder():
    return Embedder(tiny_backbone((16, 16, 8)), precision="32", device="cpu", dtype=torch.float32, progress=False)


def test_filling_adds_what_is_missing_and_passes_over_what_cannot_be_embedded(embeddings, tmp_path):
    blob((27, 33, 19), 1).save(tmp_path / "b.nii.gz")
    (tmp_path / "broken.nii.gz").write_bytes(b"no scan")
    scans = {"a": blob((30, 21, 15), 0), "broken": tmp_path / "broken.nii.gz", "b": tmp_path / "b.nii.gz"}
    opened = []

    def scan_of(key):
        opened.append(key)
        if key == "gone":
            raise OSError("no such disk")
        return scans[key]

    embedder = _embedder()
    index = PlaceIndex(tmp_path / "index", embedder.fingerprint, every_mm=4)
    left_out = index.fill(["a", "broken", "gone", "b"], scan_of, embedder)
    assert index.keys == ["a", "b"]
    assert left_out["gone"] == "no such disk"
    assert "broken.nii.gz" in left_out["broken"]
    assert opened == ["a", "broken", "gone", "b"]
    opened.clear()
    assert index.fill(["a", "b"], scan_of, embedder) == {}
    assert not opened
    by_hand = PlaceIndex(tmp_path / "other", embedder.fingerprint, every_mm=4)
    by_hand.add("b", embeddings["b"])
    for ending in ("npy", "json"):
        assert (index.folder / f"b.{ending}").read_bytes() == (by_hand.folder / f"b.{ending}").read_bytes()


def test_a_full_disk_and_an_embedder_of_other_weights_end_the_filling(tmp_path, monkeypatch):
    embedder = _embedder()
    index = PlaceIndex(tmp_path, embedder.fingerprint, every_mm=4)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module.np.lib.format, "write_array_header_1_0", full)
        with pytest.raises(OSError, match="No space left"):
            index.fill(["a"], lambda key: blob((30, 21, 15), 0), embedder)
    assert index.keys == []
    with pytest.raises(ValueError, match="the index is of the weights other"):
        PlaceIndex(tmp_path, "other").fill([], lambda key: blob((30, 21, 15), 0), embedder)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not tell what is mapped")
def test_no_file_is_mapped_when_it_is_renamed(embeddings, tmp_path, monkeypatch):
    """Windows renames no mapped file."""
    replaced, mapped = Path.replace, []

    def watched(path, target):
        mapped.append(path.name in Path("/proc/self/maps").read_text(encoding="utf-8"))
        return replaced(path, target)

    monkeypatch.setattr(Path, "replace", watched)
    index = PlaceIndex(tmp_path, embeddings["a"].fingerprint, every_mm=4)
    index.add("a", embeddings["a"])
    assert mapped == [False, False]
    index.search(torch.ones(embeddings["a"].num_channels))
    index.add("a", embeddings["a"])  # over one that was searched
    assert "a.npy" not in Path("/proc/self/maps").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("b.json", b"{"),
        ("b.json", b"[1, 2]"),
        ("b.json", b'{"format_version": 1, "affine": [[1, 2]], "voxels": []}'),
        ("b.json", b'{"format_version": 9, "affine": [], "voxels": []}'),
        ("b.json", b"\xff\xfe"),
        ("b.npy", b"no array"),
        ("b.npy", b""),
    ],
)
def test_a_broken_file_is_refused_by_its_name(name, content, embeddings, index):
    (index.folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} must .* delete both files of this CT"):
        index.search(torch.ones(embeddings["a"].num_channels))


def test_files_that_do_not_belong_together_are_refused(embeddings, index):
    (index.folder / "b.json").write_bytes((index.folder / "c.json").read_bytes())
    with pytest.raises(ValueError, match=r"b.json names \d+ places, b.npy holds \d+"):
        index.search(torch.ones(embeddings["a"].num_channels))


def test_a_key_is_no_path(embeddings, index):
    with pytest.raises(ValueError, match=r"without folders, got '\.\./a'"):
        index.add("../a", embeddings["a"])


def test_places_are_written_with_where_their_ct_came_from(tmp_path):
    facts = {"shape": (1, 1, 1), "affine": [], "settings": {}, "body_voxels": 1, "body_counts": []}
    entry = Entry("k", "AMOS", "amos_0001", "/data/ä, b.nii.gz", label_names={}, files={}, seconds={}, **facts)
    write_places([Place("k", (1.0, -2.346, 3.0), 0.98765)], tmp_path / "found.csv", {"k": entry})
    assert (tmp_path / "found.csv").read_text(encoding="utf-8").splitlines() == [
        "source,id,x,y,z,score,path",
        'AMOS,amos_0001,1.00,-2.35,3.00,0.9877,"/data/ä, b.nii.gz"',
    ]
