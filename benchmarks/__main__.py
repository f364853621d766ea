"""`python -m benchmarks [NAME ...]`: run the named comparisons and print a table; `all` writes it to RESULTS.md too."""

import datetime
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks import augmentation, cache, embed, losses, match, prepare, segment
from vox2vec.evaluation.table import markdown_head, markdown_row

COMPARISONS = {
    "prepare": prepare.rows,
    "embed": embed.rows,
    "augmentation": augmentation.rows,
    "cache": cache.rows,
    "losses": losses.rows,
    "segment": segment.rows,
    "match": match.rows,
}
RESULTS = Path(__file__).with_name("RESULTS.md")
START, END = "<!-- from here: written by python -m benchmarks all -->", "<!-- to here -->"


def main(names: list[str]) -> None:
    unknown = set(names) - {*COMPARISONS, "all"}
    if unknown:
        sys.exit(f"unknown: {sorted(unknown)}; there are {list(COMPARISONS)}, and all")
    everything = "all" in names or not names
    lines = [f"{machine()}\n", markdown_head(["what", "ours", "the other way", "ratio or note"])]
    print("\n".join(lines))
    begin = time.perf_counter()
    for name in COMPARISONS if everything else names:
        for row in COMPARISONS[name]():
            lines.append(markdown_row(row))
            print(lines[-1], flush=True)
    lines.append(f"\nAll of it took {(time.perf_counter() - begin) / 60:.0f} minutes.")
    if "all" in names:
        RESULTS.write_text(with_section(RESULTS.read_text(encoding="utf-8"), "\n".join(lines)), encoding="utf-8")
        print(f"\n{RESULTS}: the table is there")


def machine() -> str:
    """Date, processor, threads, versions."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "blosc2"))
    date = datetime.date.today().isoformat()
    return f"{date}, {_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {versions}."


def with_section(text: str, section: str) -> str:
    """The text with what stands between the two marks replaced.

    Raises:
        ValueError: the marks are not there.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"RESULTS.md must hold the lines {START!r} and {END!r}")
    return f"{before}{START}\n\n{section}\n\n{END}{after}"


def _processor() -> str:
    """With what bfloat16 runs on, which decides most rows."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        told = dict(line.split(":", 1) for line in info.read_text(encoding="utf-8").splitlines() if ":" in line)
        flags = told.get("flags\t\t", "").split()
        has = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags]
        model = f"{told.get('model name	', model).strip()} ({', '.join(has) or 'no bfloat16'})"
    return model


if __name__ == "__main__":
    main(sys.argv[1:])
