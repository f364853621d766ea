"""`python -m benchmarks [NAME ...]`: run the named comparisons, or all, and print a table."""

import platform
import sys

import torch

from benchmarks import augmentation, cache, embed, losses, match, prepare, segment

COMPARISONS = {
    "prepare": prepare.rows,
    "embed": embed.rows,
    "augmentation": augmentation.rows,
    "cache": cache.rows,
    "losses": losses.rows,
    "segment": segment.rows,
    "match": match.rows,
}


def main(names: list[str]) -> None:
    unknown = set(names) - set(COMPARISONS)
    if unknown:
        sys.exit(f"unknown: {sorted(unknown)}; there are {list(COMPARISONS)}")
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}\n"
    )
    print("| what | ours | the other way | ratio or note |\n|---|---|---|---|")
    for name in names or COMPARISONS:
        for row in COMPARISONS[name]():
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
