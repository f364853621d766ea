"""Markdown tables, character by character."""

from vox2vec.evaluation.table import markdown, markdown_head, markdown_row, plus_minus


def test_a_table_is_its_head_and_its_rows():
    table = markdown(["a", "b"], [["1", "2"], ["3", ""]])
    assert table == "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 |  |"
    assert table == "\n".join([markdown_head(["a", "b"]), markdown_row(["1", "2"]), markdown_row(["3", ""])])


def test_what_is_not_known_is_not_told():
    nan = float("nan")
    assert [plus_minus(0.5, 0.01), plus_minus(0.5, nan), plus_minus(nan, nan)] == ["0.500 ± 0.010", "0.500", "-"]
