"""Tables as Markdown, whole or line by line while they are made."""

from collections.abc import Sequence


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A whole table, without a newline at its end."""
    return "\n".join([markdown_head(header), *map(markdown_row, rows)])


def markdown_head(header: Sequence[str]) -> str:
    """The header and the line below it."""
    return f"{markdown_row(header)}\n|{'---|' * len(header)}"


def markdown_row(cells: Sequence[str]) -> str:
    """One line."""
    return f"| {' | '.join(cells)} |"


def plus_minus(mean: float, sd: float) -> str:
    """Mean and SD over folds, the mean alone where the SD is NaN (one fold), a dash where both are."""
    if mean != mean:
        return "-"
    return f"{mean:.3f}" if sd != sd else f"{mean:.3f} ± {sd:.3f}"
