"""The most memory this process ever held."""

import subprocess
import sys

from vox2vec.training.memory import peak_bytes


def peak_gib() -> float:
    """Resident; not a number where the system does not tell."""
    peak = peak_bytes()
    return float("nan") if peak is None else peak / 2**30


def peak_of(imports: str, call: str) -> tuple[str, str]:
    """Seconds of a call in a fresh process, and its peak of memory over what the process held before, as cells."""
    code = (
        f"import time; from benchmarks.memory import peak_gib\n{imports}\n"
        f"before = peak_gib(); start = time.perf_counter()\n{call}\n"
        "print(before, peak_gib(), time.perf_counter() - start)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after, seconds = map(float, done.stdout.split())
    return f"{seconds:.0f} s", f"peak {after - before:.2f} GiB over the interpreter's {before:.2f}"
