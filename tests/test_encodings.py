"""Text files are in UTF-8 whatever the machine's own encoding, which on Windows is another."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from vox2vec.data.sources.dataset_json import dataset_json

ROOT = Path(__file__).parents[1]


def test_every_text_file_is_read_and_written_in_a_named_encoding():
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in ("vox2vec", "benchmarks", "examples")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in _without_encoding(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("code", "bad"),
    [
        ("path.read_text()", True),
        ("path.write_text(text)", True),
        ("path.open('w', newline='')", True),
        ("path.open(newline='')", True),
        ("open(path)", True),
        ("path.open('rb')", False),
        ("path.write_text(text, encoding='utf-8')", False),
        ("cache.open(entry)", False),
    ],
)
def test_each_way_to_forget_it_is_found(code, bad):
    assert bool(list(_without_encoding(ast.parse(code)))) == bad


def test_a_data_set_that_windows_wrote_is_read(tmp_path):
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.nii.gz").touch()
    text = (
        '\ufeff{"labels": {"0": "Hintergrund", "1": "Gef\u00e4\u00df"}, '
        '"training": [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}]}'
    )
    (tmp_path / "dataset.json").write_text(text, encoding="utf-8")
    assert dict(dataset_json(tmp_path).label_names) == {1: "Gef\u00e4\u00df"}


def _without_encoding(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        text_mode = not any("b" in value for value in given if isinstance(value, str))
        opens = called == "open" and (isinstance(node.func, ast.Name) or len(given) == len(node.args))
        if called in ("read_text", "write_text") or (opens and text_mode):
            yield node.lineno
