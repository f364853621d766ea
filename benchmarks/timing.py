"""Seconds of two ways, taken in turns so that a busy machine slows both alike."""

import time
from collections.abc import Callable


def seconds_of(*ways: Callable[[], object], rounds: int = 3) -> list[float]:
    """The best time of each way over `rounds` turns, after one turn to warm up."""
    best = [float("inf")] * len(ways)
    for turn in range(rounds + 1):
        for i, way in enumerate(ways):
            start = time.perf_counter()
            way()
            if turn:
                best[i] = min(best[i], time.perf_counter() - start)
    return best
