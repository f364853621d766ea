"""`python -m benchmarks all` keeps what stands around its table."""

import pytest

from benchmarks.__main__ import END, RESULTS, START, machine, with_section


def test_the_table_is_replaced_and_nothing_else():
    text = f"# Results\n\n{START}\nold\n{END}\n\nby hand\n"
    once = with_section(text, "| new |")
    assert once == f"# Results\n\n{START}\n\n| new |\n\n{END}\n\nby hand\n"
    assert with_section(once, "| new |") == once


def test_the_results_have_a_place_for_it_and_another_text_is_refused():
    assert "| new |" in with_section(RESULTS.read_text(), "| new |")
    with pytest.raises(ValueError, match="must hold the lines"):
        with_section("# Results\n", "| new |")


def test_the_machine_is_told_with_its_versions():
    assert "torch " in machine()
    assert "threads" in machine()
