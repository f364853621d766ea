"""The recipe."""

import json

import pytest

from vox2vec.recipe import PAPER, Recipe


def test_a_recipe_survives_json():
    recipe = Recipe(spacing_mm=(4, 4, 3), window_hu=(-1000, 400), body_hu=-300, patch_size=(32, 32, 16))
    assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe


def test_the_papers_recipe_has_the_published_numbers():
    assert PAPER.as_dict() == {
        "spacing_mm": (1.0, 1.0, 2.0),
        "window_hu": (-1350.0, 1000.0),
        "body_hu": -500.0,
        "patch_size": (128, 128, 32),
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"spacing_mm": (1, 0, 2)}, r"three positive numbers of millimetres, got \(1, 0, 2\)"),
        ({"window_hu": (100, 100)}, r"low < high, got \(100, 100\)"),
        ({"patch_size": (0, 1, 1)}, r"three positive numbers of voxels, got \(0, 1, 1\)"),
    ],
)
def test_an_impossible_recipe_is_refused(fields, message, unchecked_shapes):
    with pytest.raises(ValueError, match=message):
        Recipe(**fields)


def test_an_unknown_field_is_refused_by_name():
    with pytest.raises(ValueError, match=r"spacing_mm.*got .*colour"):
        Recipe.from_dict(PAPER.as_dict() | {"colour": 3})
