"""The most memory that this process ever held."""

import re
import sys
from pathlib import Path

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]

_STATUS = Path("/proc/self/status")


def peak_bytes() -> int | None:
    """Resident; None where the system does not tell, as on Windows.

    Linux tells it of this process alone in /proc; `getrusage` counts what a parent held before it started the child.
    """
    if _STATUS.exists() and (told := re.search(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(encoding="utf-8"), re.M)):
        return 1024 * int(told[1])
    if resource is None:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most  # bytes on macOS, KiB elsewhere
