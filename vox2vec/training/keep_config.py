"""What a run was started with stays beside what it leaves."""

import shutil
from pathlib import Path


def keep_config(path: Path | None, log_dir: Path) -> None:
    """The file a run was started with, beside what it leaves, as config.yaml; nothing where there was none."""
    kept = log_dir / "config.yaml"
    if path is not None and path.resolve() != kept.resolve():
        log_dir.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, kept)
