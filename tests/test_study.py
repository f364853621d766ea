"""The study's report says what its pieces say."""

import json

import numpy as np
import pytest

from benchmarks.study_report import report
from vox2vec.evaluation.results import Results


def _run(dice: dict[str, dict[str, float]], fold: str = "0") -> Results:
    """Of one fold, by head and patient; two structures of the same Dice, but for one that a patient lacks."""
    scores = {
        head: {id: {"larynx": {"dice": value}, "mandible": {"dice": None}} for id, value in patients.items()}
        for head, patients in dice.items()
    }
    split = {"train": ["a", "b", "c"], "val": [], "test": ["d", "e"]}
    return Results({"setup": "x"}, {"1": "larynx", "2": "mandible"}, {fold: {"split": split, "scores": scores}})


@pytest.fixture
def work(tmp_path):
    """Two seeds of a probe with one scan, one of fine-tuning with all, one of the lung pair and of the copies."""
    pieces = {
        "openkbp/probing_small_1_seed0": _run({"linear": {"d": 0.2, "e": 0.4}, "nonlinear": {"d": 0.5, "e": 0.5}}),
        "openkbp/probing_small_1_seed1": _run({"linear": {"d": 0.5}, "nonlinear": {"d": 0.6}}),
        "openkbp/fine-tuning_small_all_seed0": _run({"linear": {"d": 0.7, "e": 0.9}}),
        "openkbp/atlas_small_1_seed0": _run({"atlas": {"d": 0.5, "e": 0.6}}),
        "torso/knn_random_seed0": _run({"nearest": {"d": 0.125}}, "chest_to_abdomen"),
    }
    for name, results in pieces.items():
        (tmp_path / name).mkdir(parents=True)
        results.write(tmp_path / name / "results.json")
    (tmp_path / "pair_seed0.json").write_text(json.dumps({"small": [1, 2, 30], "correlation, 24 mm": [4, 6, 8]}))
    (tmp_path / "copies_seed0.json").write_text(json.dumps({"small: pt_1": [3, 4, 9], "random: pt_1": [50, 60, 70]}))
    return tmp_path


def test_a_cell_is_the_mean_over_seeds_and_their_spread(work, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    report(work, out)
    lines = (out / "STUDY.md").read_text().splitlines()
    assert f"| linear probe, small | 0.400 ± {np.std([0.3, 0.5], ddof=1):.3f} |  |" in lines
    assert f"| non-linear probe, small | 0.550 ± {np.std([0.5, 0.6], ddof=1):.3f} |  |" in lines
    assert "| small, fine-tuned |  | 0.800 |" in lines
    assert "| atlas by the field, small | 0.550 |  |" in lines
    assert any("Seeds: 0, 1;" in line for line in lines)
    assert "| nearest neighbours, random weights | 0.125 |" in lines
    assert "| small | 2.0 | 27.2 | 66.7 | 66.7 |" in lines
    assert lines.index("| correlation, 24 mm | 6.0 | 7.8 | 33.3 | 100.0 |") > lines.index(
        "| small | 2.0 | 27.2 | 66.7 | 66.7 |"
    )
    assert "| pt_1 | 60.0 | 4.0 |" in lines
    assert {path.name for path in out.glob("*.png")} == {"study_dice.png", "study_pair.png", "study_copies.png"}


def test_without_pieces_it_says_that_there_are_none(tmp_path):
    report(tmp_path, tmp_path)
    text = (tmp_path / "STUDY.md").read_text()
    assert "Seeds: none yet" in text
    assert "|" not in text
