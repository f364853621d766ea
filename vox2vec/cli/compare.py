"""`vox2vec compare RUN RUN ...`: evaluations side by side."""

import argparse
from pathlib import Path
from typing import Any

from vox2vec.evaluation.comparison import comparison_table, differences_table, draw_comparison
from vox2vec.evaluation.results import Results
from vox2vec.evaluation.scores import METRICS
from vox2vec.evaluation.table import markdown


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec compare`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare",
        help="evaluations side by side",
        description="Print the runs' Dice as a table, setups by rows and structures by columns, mean ± SD over folds, "
        "beside the published rows where it is BTCV; and each run less the first, paired by patient.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="log folders of eval.py, or results.json")
    parser.add_argument("--metric", choices=METRICS, default="dice", help="(default: dice, the official protocol's)")
    parser.add_argument("-o", "--output", metavar="PNG", type=Path, help="draw it too")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Two tables, and the figure if asked."""
    if arguments.output is not None and not arguments.output.resolve().parent.is_dir():
        raise FileNotFoundError(f"the folder of the output must exist, {arguments.output.resolve().parent} does not")
    runs = {_name(path): Results.read(path) for path in arguments.runs}
    print(markdown(*comparison_table(runs, metric=arguments.metric)))
    header, rows = differences_table(runs, metric=arguments.metric)
    if rows:
        print(f"\n{markdown(header, rows)}")
    if arguments.output is not None:
        draw_comparison(runs, arguments.output, metric=arguments.metric)
        print(arguments.output)


def _name(path: Path) -> str:
    return (path.parent if path.suffix == ".json" else path).resolve().name
