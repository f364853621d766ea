"""Files that earlier versions wrote are read, and say what they said then; `make.py` wrote them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vox2vec import Embedding, Recipe, load_backbone
from vox2vec.data.cache import Cache, problems_in
from vox2vec.geometry import Box
from vox2vec.matching.retrieval import PlaceIndex
from vox2vec.nn.fingerprint import fingerprint
from vox2vec.nn.head_file import check_backbone, load_head

FOLDER = Path(__file__).parent
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
RECIPE = Recipe.from_dict(EXPECTED["recipe"])


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(FOLDER / "backbone.safetensors")


@pytest.fixture(scope="module")
def pyramid(backbone):
    with torch.inference_mode():
        patch = (torch.arange(16 * 16 * 8, dtype=torch.float32) * 0.37).sin().add(1).div(2)  # as in make.py
        return backbone(patch.reshape(1, 1, 16, 16, 8))


def test_a_backbone_keeps_its_weights_its_recipe_and_its_fingerprint(backbone, pyramid):
    assert not backbone.training
    assert backbone.recipe == RECIPE
    assert fingerprint(backbone) == EXPECTED["fingerprint"]
    for level, wanted in zip(pyramid, EXPECTED["backbone"], strict=True):
        torch.testing.assert_close(level[0, :, 1, 2, 1], torch.tensor(wanted), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["linear", "nonlinear"])
def test_a_head_finds_what_it_found_on_its_own_backbone(kind, backbone, pyramid):
    head = load_head(FOLDER / f"head_{kind}.safetensors")
    check_backbone(head, backbone)
    assert head.label_names == {1: "liver", 6: "spleen"}
    with torch.inference_mode():
        logits = head.network(pyramid)[0, :, 5, 6, 3]
    torch.testing.assert_close(logits, torch.tensor(EXPECTED["heads"][kind]), rtol=0, atol=1e-5)


def test_an_embedding_of_format_1_has_its_vectors_and_takes_what_windows_saw_as_the_body():
    embedding, wanted = Embedding.load(FOLDER / "embedding.safetensors"), EXPECTED["embedding"]
    assert embedding.shape == tuple(wanted["shape"])
    assert embedding.recipe == RECIPE
    assert embedding.fingerprint == EXPECTED["fingerprint"]
    np.testing.assert_array_equal(embedding.affine, wanted["affine"])
    torch.testing.assert_close(embedding.at(wanted["points_mm"]), torch.tensor(wanted["vectors"]), rtol=0, atol=0)
    assert bool(embedding.at([wanted["air_mm"]]).isnan().all())
    assert embedding.has_vector().sum() == wanted["voxels_with_vector"] < np.prod(embedding.shape)
    np.testing.assert_array_equal(embedding.body, embedding.has_vector())


def test_an_index_finds_the_places_it_found():
    wanted = EXPECTED["index"]
    index = PlaceIndex(FOLDER / "index", EXPECTED["fingerprint"], every_mm=wanted["every_mm"])
    assert index.keys == ["phantom_0000"]
    found = index.search(torch.tensor(wanted["vector"]), count=3)
    assert [(place.key, list(place.point_mm)) for place in found] == [(key, mm) for key, mm, _ in wanted["places"]]
    np.testing.assert_allclose([p.score for p in found], [score for _, _, score in wanted["places"]], atol=1e-5)


def test_an_entry_of_a_cache_is_whole_and_holds_image_body_and_labels():
    wanted = EXPECTED["cache"]
    cache = Cache(FOLDER / "cache", RECIPE)
    (entry,) = cache.entries()
    assert (entry.key, entry.id, entry.body_voxels) == (wanted["key"], "phantom_0000", wanted["body_voxels"])
    assert entry.label_names["6"] == "liver"
    np.testing.assert_array_equal(entry.affine, wanted["affine"])
    assert problems_in(FOLDER / "cache") == []
    scan = cache.open(entry)
    whole = Box((0, 0, 0), scan.shape)
    image, labels = scan.image_hu(whole), scan.labels(whole)
    assert image.astype(np.int64).sum() == wanted["sum_hu"]
    np.testing.assert_array_equal(image[:, scan.shape[1] // 2, scan.shape[2] // 2], wanted["hu_of_middle_row"])
    assert scan.body(whole).sum() == wanted["body_voxels"]
    assert {str(n): int((labels == n).sum()) for n in np.unique(labels)} == wanted["voxels_of_label"]
