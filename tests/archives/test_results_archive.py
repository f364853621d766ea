"""A results.json of format 1 is read, and its scores are those that were written."""

import json
from pathlib import Path

import numpy as np

from vox2vec.evaluation.results import Results

FOLDER = Path(__file__).parent


def test_results_of_format_1_give_the_scores_that_were_written():
    results = Results.read(FOLDER / "results.json")
    assert results.name == "probing"
    assert results.heads == ["linear"]
    assert dict(results.structures) == {"1": "liver", "2": "spleen"}
    table = results.table("linear", "dice")
    wanted = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))["results"]["dice"]
    np.testing.assert_array_equal(table[:2], wanted)
    np.testing.assert_array_equal(table[2], [0.625, np.nan])  # an absent structure has no score
