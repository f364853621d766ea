"""The warm-up: resumable, parallel, on Dask; bad scans are lines, killed workers too, and SIGKILL does no harm."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.data.scans import RECIPE, Made, body
from vox2vec.data.cache import Cache, entries_in, problems_in
from vox2vec.data.sources.source import LeftOut
from vox2vec.data.warm_up import warm_up
from vox2vec.volume import Volume

ROOT = Path(__file__).parents[2]


def _source(n=3, **more):
    return Made({f"s{i}": body(i) for i in range(n)}, **more)


def _warm(folder, *sources, **options):
    return warm_up(Cache(folder, RECIPE), list(sources), **{"num_workers": 0, "progress": False, **options})


def test_a_second_run_stores_only_what_is_missing(tmp_path):
    assert _warm(tmp_path, _source(4), limit=2).stored == 2
    report = _warm(tmp_path, _source(4))
    assert (report.stored, report.present) == (2, 2)
    assert [entry.id for entry in entries_in(tmp_path)] == ["s0", "s1", "s2", "s3"]


def test_processes_store_what_one_process_stores(tmp_path):
    _warm(tmp_path / "one", _source(4))
    _warm(tmp_path / "two", _source(4), num_workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@dataclass(frozen=True)
class Odd(Made):
    """Scans that fail in every way."""

    def load(self, id: str) -> Volume:
        if id == "irregular":
            raise ValueError("slices must be evenly spaced,\n  got gaps")
        if id == "vanished":
            raise FileNotFoundError(2, "No such file", "/nowhere/a.dcm")
        if id == "bug":
            raise KeyError("PixelData")
        if id == "deadly":
            os._exit(9)
        return super().load(id)


def _odd(*ids):
    return Odd({**{id: body(0) for id in ids}, "good": body(1), "zgood": body(2)}, name="odd")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_scans_are_lines_of_the_report_and_the_run_goes_on(num_workers, tmp_path):
    source = _odd("irregular", "vanished", "bug")
    report = _warm(tmp_path, source, num_workers=num_workers)
    assert report.stored == 2
    report.write(tmp_path / "report.csv")
    with (tmp_path / "report.csv").open(newline="") as file:
        lines = {row["id"]: (row["what"], row["path"], row["reason"]) for row in csv.DictReader(file)}
    assert lines == {
        "bug": ("failed", "made:bug", "KeyError: 'PixelData'"),
        "irregular": ("failed", "made:irregular", "slices must be evenly spaced, got gaps"),
        "vanished": ("failed", "made:vanished", "FileNotFoundError: [Errno 2] No such file: '/nowhere/a.dcm'"),
    }


def test_refused_scans_are_not_read_again_until_asked_for(tmp_path):
    _warm(tmp_path, _odd("irregular", "bug"))
    mended = Made({id: body(5) for id in ("irregular", "bug", "good", "zgood")}, name="odd")
    report = _warm(tmp_path, mended)
    assert [failure.id for failure in report.failed] == ["irregular"]
    assert report.stored == 1  # "bug" was no refusal: it is tried anew
    assert _warm(tmp_path, mended, retry=True).stored == 1


def test_a_scan_that_kills_its_process_is_found_and_the_rest_stored(tmp_path):
    report = _warm(tmp_path, _odd("deadly", "irregular"), num_workers=2)
    assert {failure.id: failure.reason.split(",")[0] for failure in report.failed} == {
        "deadly": "the process that read it died",
        "irregular": "slices must be evenly spaced",
    }
    assert [entry.id for entry in entries_in(tmp_path)] == ["good", "zgood"]


def test_one_worker_survives_a_deadly_scan_too(tmp_path):
    report = _warm(tmp_path, _odd("deadly"), num_workers=1)
    assert [failure.id for failure in report.failed] == ["deadly"]
    assert report.stored == 2


def test_entries_of_older_files_are_dropped_and_no_others(tmp_path):
    _warm(tmp_path, _source(2), Made({"s0": body(7)}, name="other", versions={"s0": 3}))
    report = _warm(tmp_path, _source(2, versions={"s1": 1}))
    assert (report.stored, report.present, report.superseded) == (1, 1, 1)
    assert [(entry.source, entry.id) for entry in entries_in(tmp_path)] == [
        ("made", "s0"),
        ("made", "s1"),
        ("other", "s0"),
    ]


def test_what_a_source_left_out_is_reported(tmp_path):
    report = _warm(tmp_path, _source(1, left_out=[LeftOut("a/scout", "localizer")]))
    assert [(item.path, item.reason) for item in report.left_out] == [("a/scout", "localizer")]


def test_dask_workers_store_what_one_process_stores(tmp_path):
    distributed = pytest.importorskip("distributed")
    _warm(tmp_path / "alone", _odd("irregular"))
    with distributed.LocalCluster(n_workers=2, processes=True, threads_per_worker=1, dashboard_address=None) as cluster:
        report = _warm(tmp_path / "dask", _odd("irregular"), dask=cluster.scheduler_address)
    assert (report.stored, [failure.id for failure in report.failed]) == (2, ["irregular"])
    assert contents(tmp_path / "dask") == contents(tmp_path / "alone")


def test_an_address_without_a_scheduler_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("vox2vec.data.warm_up.DASK_TIMEOUT_S", 1)
    with pytest.raises(ValueError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        _warm(tmp_path, _source(1), dask="tcp://127.0.0.1:9")


def test_dask_that_is_not_installed_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"pip install 'vox2vec\[dask\]'"):
        _warm(tmp_path, _source(1), dask="tcp://127.0.0.1:9")


def test_sigkill_at_any_moment_leaves_a_valid_cache_that_a_rerun_completes(tmp_path):
    """Ten kills of the whole command, each a random time after a sign of work; workers end with their parent."""
    peace, war = tmp_path / "peace", tmp_path / "war"
    _run(_command(peace, num_workers=0))
    rng = random.Random(0)
    mark, kills = f"warming {war}", 0
    for attempt in range(10):
        command = _command(war, num_workers=2 if attempt % 3 == 0 else 0)
        process = subprocess.Popen(command, env={**os.environ, "MARK": mark}, stderr=subprocess.DEVNULL, cwd=ROOT)
        before = len(list(war.glob("*/*")))
        while process.poll() is None and len(list(war.glob("*/*"))) <= before:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        _wait_for_orphans(mark)
        if war.exists():
            assert problems_in(war) == []
    assert kills == 10
    _run(_command(war, num_workers=0))
    assert contents(war) == contents(peace)
    assert problems_in(war) == []
    assert list((war / "writing").iterdir()) == []


def _command(folder: Path, *, num_workers: int) -> list[str]:
    code = f"""
from pathlib import Path
from tests.data.scans import RECIPE, Made, body
from vox2vec.data.cache import Cache
from vox2vec.data.warm_up import warm_up
if __name__ == "__main__":
    source = Made({{f"s{{i:02d}}": body(i, (90, 80, 40)) for i in range(60)}})
    warm_up(Cache(Path({str(folder)!r}), RECIPE), [source], num_workers={num_workers}, progress=False)
"""
    return [sys.executable, "-c", code]


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, cwd=ROOT)


def _wait_for_orphans(mark: str) -> None:
    """Until no process of the killed run is left; workers must end by themselves."""
    deadline = time.monotonic() + 60
    while any(mark in _environment(pid) for pid in _processes()):
        assert time.monotonic() < deadline, "workers outlived their killed parent"
        time.sleep(0.01)


def _processes() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def _environment(pid: str) -> str:
    try:
        return Path("/proc", pid, "environ").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def contents(folder: Path) -> dict[str, bytes]:
    """Every array file of a cache."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("scans/*/*.b2nd")}
