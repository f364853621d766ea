"""Filling a cache: many processes, one machine or several, one bad CT never the end of it."""

import csv
import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path

import torch
from tqdm import tqdm

from vox2vec.data.cache import Cache, drop, drop_leftovers, entries_in
from vox2vec.data.sources.source import Source

DASK_TIMEOUT_S = 20
_FULL = (ENOSPC, EDQUOT, EFBIG)


@dataclass(frozen=True)
class Failure:
    """A scan that is not in the cache, and why."""

    source: str
    id: str
    path: str
    reason: str


@dataclass
class Report:
    """What a warm-up did.

    Attributes:
        stored: CTs prepared now.
        present: CTs that were there already.
        failed: scans that could not be prepared, now or earlier.
        left_out: what the sources passed over.
        superseded: entries of older versions of these scans' files, deleted.
    """

    stored: int = 0
    present: int = 0
    failed: list[Failure] = field(default_factory=list)
    left_out: list[Failure] = field(default_factory=list)
    superseded: int = 0

    def write(self, path: Path) -> None:
        """As CSV: what happened (failed, left out), source, id, path, reason."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["what", "source", "id", "path", "reason"])
            for what, items in (("failed", self.failed), ("left out", self.left_out)):
                writer.writerows((what, item.source, item.id, item.path, item.reason) for item in items)


@dataclass(frozen=True)
class _Job:
    source: Source
    id: str
    key: str


def warm_up(
    cache: Cache,
    sources: Sequence[Source],
    *,
    labels: bool = False,
    num_workers: int = 1,
    dask: str | None = None,
    retry: bool = False,
    limit: int | None = None,
    progress: bool = True,
) -> Report:
    """Store in the cache every scan of the sources that is missing.

    Args:
        labels: store labels too; scans without any are left out.
        num_workers: processes of this machine; 0 works in this one.
        dask: address of a Dask scheduler whose workers do it instead; they must see the same paths.
        retry: try again what was refused before.
        limit: scans of each source, the first of its ids; all by default.

    Raises:
        OSError: the cache's disk is full, or cannot be written; what is stored stays.
        ValueError: no Dask scheduler at the address, or Dask is not installed.
    """
    drop_leftovers(cache.folder)
    report = Report()
    keys: dict[tuple[str, str], str] = {}
    jobs = list(_missing(cache, sources, report, keys, labels=labels, retry=retry, limit=limit))
    if jobs:
        cache.folder.mkdir(parents=True, exist_ok=True)
        with tqdm(total=len(jobs), desc="warming up", unit="CT", disable=None if progress else True) as bar:
            for job, reason in _done(jobs, cache, labels, num_workers, dask):
                if reason is None:
                    report.stored += 1
                else:
                    report.failed.append(Failure(job.source.name, job.id, job.source.path(job.id), reason))
                bar.update()
                bar.set_postfix(failed=len(report.failed))
    report.failed.sort(key=lambda failure: (failure.source, failure.id))
    report.superseded = _drop_superseded(cache, keys, labels=labels)
    return report


def _missing(
    cache: Cache,
    sources: Sequence[Source],
    report: Report,
    keys: dict[tuple[str, str], str],
    *,
    labels: bool,
    retry: bool,
    limit: int | None,
) -> Iterator[_Job]:
    """What is to be done; the report learns of the rest, and `keys` of every scan's key, by data set and path."""
    seen: set[str] = set()
    for source in sources:
        report.left_out += [Failure(source.name, "", item.path, item.reason) for item in source.left_out]
        for id in source.ids[:limit]:
            key = keys[source.name, source.path(id)] = cache.key(source, id, labels=labels)
            refusal = None if retry else cache.refusal(key)
            if key in cache or key in seen:
                report.present += 1
            elif refusal is not None:
                report.failed.append(Failure(source.name, id, source.path(id), refusal))
            else:
                seen.add(key)
                yield _Job(source, id, key)


def _done(
    jobs: Sequence[_Job], cache: Cache, labels: bool, num_workers: int, dask: str | None
) -> Iterator[tuple[_Job, str | None]]:
    """Each job with its failure, as they end."""
    if dask is not None:
        with _dask_executor(dask) as executor:
            yield from _ended(executor, jobs, cache, labels, ahead=10000)
    elif num_workers == 0:
        yield from ((job, _store(cache, job.source, job.id, job.key, labels)) for job in jobs)
    else:
        yield from _done_by_pool(jobs, cache, labels, num_workers)


def _done_by_pool(
    jobs: Sequence[_Job], cache: Cache, labels: bool, num_workers: int
) -> Iterator[tuple[_Job, str | None]]:
    """A process that dies takes the pool with it: what was being read then is tried one by one in a new pool."""
    remaining = list(jobs)
    suspected = False
    while remaining:
        workers = 1 if suspected else num_workers
        ended: set[str] = set()
        try:
            with _pool(workers) as executor:
                batch = remaining[:num_workers] if suspected else remaining
                for job, reason in _ended(executor, batch, cache, labels, ahead=workers):
                    ended.add(job.key)
                    yield job, reason
            broken = False
        except BrokenProcessPool:
            broken = True
        remaining = [job for job in remaining if job.key not in ended]
        if broken and workers == 1:
            yield remaining.pop(0), "the process that read it died, most likely for lack of memory"
        suspected = broken and workers > 1


def _ended(
    executor: Executor, jobs: Iterable[_Job], cache: Cache, labels: bool, *, ahead: int
) -> Iterator[tuple[_Job, str | None]]:
    """In the order they end, few submitted ahead so that a full disk or an interrupt stops soon."""
    waiting = iter(jobs)
    running: dict[Future[str | None], _Job] = {}
    try:
        while True:
            while len(running) < ahead and (job := next(waiting, None)) is not None:
                running[executor.submit(_store, cache, job.source.only(job.id), job.id, job.key, labels)] = job
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), _result(future)
    finally:
        for future in running:
            future.cancel()


def _result(future: Future[str | None]) -> str | None:
    try:
        return future.result()
    except (OSError, BrokenProcessPool):
        raise
    except Exception as error:  # of Dask, such as a worker that died again and again
        return f"{type(error).__name__}: {error}"


def _store(cache: Cache, source: Source, id: str, key: str, labels: bool) -> str | None:
    """In a worker: None, or why the scan cannot be stored; raises only what stops the whole run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        cache.store(source, id, labels=labels)
    except ValueError as error:
        reason = " ".join(str(error).split())
        cache.refuse(key, path=source.path(id), reason=reason)
        return reason
    except OSError as error:
        if error.errno in _FULL:
            raise OSError(error.errno, f"the disk of {cache.folder} is full; free some, then run again") from error
        if error.filename is not None and Path(error.filename).is_relative_to(cache.folder):
            raise
        return f"{type(error).__name__}: {error}"
    except Exception as error:  # a reader's bug on one odd file must not end a run of thousands
        return f"{type(error).__name__}: {error}"
    finally:
        torch.set_num_threads(threads)
    return None


def _drop_superseded(cache: Cache, keys: Mapping[tuple[str, str], str], *, labels: bool) -> int:
    """Entries of these scans' files as they were before."""
    count = 0
    for entry in entries_in(cache.folder):
        key = keys.get((entry.source, entry.path))
        if key is not None and key != entry.key and cache.holds(entry) and ("labels" in entry.files) == labels:
            drop(cache.folder, entry.key)
            count += 1
    return count


def _pool(num_workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(num_workers, mp_context=context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """A killed warm-up leaves no workers behind: each waits for its parent's end in a thread."""
    parent = multiprocessing.parent_process()

    def wait_and_end() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait_and_end, daemon=True).start()


@contextmanager
def _dask_executor(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError("--dask needs Dask: pip install 'vox2vec[dask]'") from error
    try:
        client = Client(address, timeout=DASK_TIMEOUT_S)
    except OSError as error:
        raise ValueError(f"no Dask scheduler answers at {address} ({error}); start one: dask scheduler") from error
    with client:
        yield client.get_executor()
