"""`vox2vec warmup-cache --cache_dir C`: prepare CTs once, so that training reads them by patch."""

import argparse
from pathlib import Path
from typing import Any

from vox2vec.cli.arguments import add_cache, add_sources, cache_of, checked_output, sources_of
from vox2vec.data.warm_up import warm_up

SOME_FAILED = 1


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec warmup-cache`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "warmup-cache",
        description="Prepare every CT of the data sets and keep it in a cache. A second run does what is missing. A "
        "scan that cannot be read is a line of report.csv; then the exit code is 1.",
    )
    add_cache(parser)
    add_sources(parser)
    parser.add_argument("--labels", action="store_true", help="store labels too; every scan must have some")
    parser.add_argument("--num_workers", type=int, default=1, help="processes; 0 works in this one (default: 1)")
    parser.add_argument("--dask", metavar="ADDRESS", help="a Dask scheduler, such as tcp://host:8786, does the work")
    parser.add_argument("--retry", action="store_true", help="try again the scans that were refused in earlier runs")
    parser.add_argument(
        "--report",
        metavar="CSV",
        type=Path,
        help="what failed or was left out, and why (default: CACHE_DIR/report.csv)",
    )
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Warm the cache and write the report; the exit code says whether any scan failed."""
    if arguments.num_workers < 0:
        raise ValueError(f"--num_workers must be 0 or more, got {arguments.num_workers}")
    path = arguments.report or arguments.cache_dir / "report.csv"
    if arguments.report is not None:
        checked_output(path, suffixes=[".csv"], inputs=[data for data in arguments.data_dir if data.is_file()])
    how = {name: getattr(arguments, name) for name in ("labels", "num_workers", "dask", "retry")}
    report = warm_up(cache_of(arguments), sources_of(arguments, num_workers=arguments.num_workers), **how)
    report.write(path)
    print(
        f"{report.stored} CTs stored, {report.present} were there, {len(report.failed)} failed, "
        f"{len(report.left_out)} left out, {report.superseded} of older files dropped; see {path}"
    )
    for failure in report.failed[:10]:
        print(f"  failed: {failure.path}: {failure.reason}")
    return SOME_FAILED if report.failed else 0
