"""A folder of prepared CTs that is read by patch: one blosc2 file a CT, one for its body mask, one of facts.

    folder/scans/KEY/image.b2nd    HU, int16, on the recipe's grid, axes RAS+
                     body.b2nd     bool, the same grid
                     labels.b2nd   uint8 or int16, where the scan was stored with labels
                     entry.json    what it is; written with the rest, by one rename of the whole folder
    folder/refused/KEY.json        why a scan cannot be one, so that it is not read again
    folder/writing/                unfinished; dead writers' leftovers are dropped

KEY is a hash of what the files depend on: the scan's files (path, size, time), spacing and body threshold of the
recipe, whether the table is left out, and this format's version. The window and the patch size are no part of it.
"""

import hashlib
import json
import os
import shutil
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
from jaxtyping import Bool

from vox2vec.data.cached_scan import CachedScan, block_counts, compressed
from vox2vec.data.entry import Entry
from vox2vec.data.sources.source import Source, check_same_grid
from vox2vec.preprocessing.body import body_mask
from vox2vec.preprocessing.prepare import prepare_hu
from vox2vec.reading.values import AIR_HU
from vox2vec.recipe import PAPER, Recipe
from vox2vec.volume import Volume

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Cache:
    """Prepared CTs of one recipe in a folder, which may hold others' too. Any number of processes may share it.

    Attributes:
        folder: made when the first CT is stored.
        recipe: how scans are prepared.
        table: whether the table under the patient counts as body, as published.
    """

    folder: Path
    recipe: Recipe = PAPER
    table: bool = True

    def key(self, source: Source, id: str, *, labels: bool = False) -> str:
        """Of the entry that `store` would make now; reads no image."""
        facts = {**self._settings, "labels": labels, "identity": source.identity(id, labels=labels)}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]

    def __contains__(self, key: str) -> bool:
        return (self.folder / "scans" / key / "entry.json").is_file()

    def refusal(self, key: str) -> str | None:
        """Why the scan of this key was refused when it was last tried, or None."""
        path = self.folder / "refused" / f"{key}.json"
        return str(json.loads(path.read_text(encoding="utf-8"))["reason"]) if path.is_file() else None

    def refuse(self, key: str, *, path: str, reason: str) -> None:
        """Remember that the scan at `path` cannot be prepared."""
        with self._workspace() as work:
            (work / "refused.json").write_text(json.dumps({"path": path, "reason": reason}), encoding="utf-8")
            (self.folder / "refused").mkdir(exist_ok=True)
            os.replace(work / "refused.json", self.folder / "refused" / f"{key}.json")

    def store(self, source: Source, id: str, *, labels: bool = False) -> Entry:
        """Read, prepare and write one scan, and with `labels` its labels; replaces nothing that is there.

        Raises:
            ValueError: the scan cannot be one (unreadable, irregular, without a body), or has no labels.
            OSError: the folder cannot be written, a full disk above all; the cache stays valid.
        """
        key = self.key(source, id, labels=labels)
        clock = _Clock()
        scan = source.load(id)
        clock.lap("read")
        prepared = prepare_hu(scan, self.recipe)
        image = prepared.image
        if image.dtype != np.int16:
            image = np.clip(np.rint(image), AIR_HU, np.iinfo(np.int16).max).astype(np.int16)
        clock.lap("prepare")
        body = body_mask(image, body_hu=self.recipe.body_hu, table=self.table, spacing_mm=self.recipe.spacing_mm)
        if not body.any():
            raise ValueError("a scan must hold a body, its mask is empty; is it in HU?")
        clock.lap("body")
        arrays: dict[str, np.ndarray] = {"image": image, "body": body}
        if labels:
            arrays["labels"] = _labels_on(prepared, scan, source, id)
        with self._workspace() as work:
            sums = {name: _write(work / f"{name}.b2nd", compressed(a, self.recipe)) for name, a in arrays.items()}
            clock.lap("write")
            entry = self._entry(key, source, id, Volume(image, prepared.affine), body, sums, clock.laps)
            (work / "entry.json").write_text(json.dumps(entry.as_dict()), encoding="utf-8")
            self._commit(work, key)
        return entry

    def entries(self) -> list[Entry]:
        """What this cache holds for its recipe, sorted by source and id."""
        return [entry for entry in entries_in(self.folder) if self.holds(entry)]

    def holds(self, entry: Entry) -> bool:
        """Whether an entry of the folder was prepared by this cache's recipe, in this format."""
        return entry.settings == self._settings

    def open(self, entry: Entry) -> CachedScan:
        """Open an entry for reading by patch; about a millisecond."""
        return CachedScan.open(self.folder / "scans" / entry.key, entry)

    @property
    def _settings(self) -> dict[str, Any]:
        spacing = list(self.recipe.spacing_mm)
        return {"format": FORMAT_VERSION, "spacing_mm": spacing, "body_hu": self.recipe.body_hu, "table": self.table}

    def _entry(
        self,
        key: str,
        source: Source,
        id: str,
        volume: Volume,
        body: Bool[np.ndarray, "x y z"],
        sums: dict[str, list[int]],
        seconds: dict[str, float],
    ) -> Entry:
        counts = block_counts(body)
        return Entry(
            key=key,
            source=source.name,
            id=id,
            path=source.path(id),
            shape=volume.shape,
            affine=volume.affine.tolist(),
            settings=self._settings,
            body_voxels=int(counts.sum()),
            body_counts=counts.tolist(),
            label_names={str(k): v for k, v in source.label_names.items()} if "labels" in sums else {},
            files=sums,
            seconds=seconds,
        )

    @contextmanager
    def _workspace(self) -> Iterator[Path]:
        """A folder of this process's own, beside the entries so that a rename moves it; gone at the end."""
        work = self.folder / "writing" / f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex}"
        work.mkdir(parents=True)
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _commit(self, work: Path, key: str) -> None:
        (self.folder / "scans").mkdir(exist_ok=True)
        try:
            work.rename(self.folder / "scans" / key)
        except OSError:
            if key not in self:  # else another process was first, with the same content
                raise


def entries_in(folder: Path) -> list[Entry]:
    """Every valid entry of a cache folder, of any recipe, sorted by source and id."""
    entries: list[Entry] = []
    for path in (folder / "scans").glob("*/entry.json"):
        with suppress(FileNotFoundError):  # dropped by another process meanwhile
            entries.append(Entry.read(path))
    return sorted(entries, key=lambda e: (e.source, e.id, e.key))


def problems_in(folder: Path) -> list[tuple[str, str]]:
    """Key and fault of every entry whose files are not as written: read whole and summed."""
    found: list[tuple[str, str]] = []
    scans = folder / "scans"
    for place in sorted(scans.iterdir()) if scans.is_dir() else ():
        try:
            entry = Entry.read(place / "entry.json")
        except (OSError, ValueError) as error:
            found.append((place.name, f"entry.json cannot be read ({error})"))
            continue
        for name, written in entry.files.items():
            path = place / f"{name}.b2nd"
            if not path.is_file() or _sums(path.read_bytes()) != written:
                found.append((place.name, f"{path.name} is {'not as written' if path.is_file() else 'missing'}"))
    return found


def drop(folder: Path, key: str) -> None:
    """Delete one entry: first out of sight, then for good, so that no half of it is ever seen.

    One that is not there is no error: another process was first.
    """
    gone = folder / "writing" / f"dropped-{uuid4().hex}"
    gone.parent.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):
        (folder / "scans" / key).rename(gone)
        shutil.rmtree(gone)


def drop_leftovers(folder: Path) -> int:
    """Delete what dead writers of this machine left behind, and what is a day old; how many there were."""
    count = 0
    for work in (folder / "writing").glob("*"):
        try:
            if _is_dead(work.name) or time.time() - work.stat().st_mtime > 86400:
                shutil.rmtree(work)
                count += 1
        except FileNotFoundError:  # finished, or dropped by another process
            continue
    return count


class Pruned(NamedTuple):
    """How much `prune` deleted: broken entries, entries of the named data set, leftovers of dead writers."""

    broken: int
    named: int
    leftovers: int


def prune(folder: Path, *, source: str | None = None) -> Pruned:
    """Delete what is of no use: broken entries, remembered refusals, leftovers; and with `source` a whole data set."""
    broken = {key for key, _ in problems_in(folder)}
    for key in broken:
        drop(folder, key)
    named = [entry.key for entry in entries_in(folder) if source is not None and entry.source == source]
    for key in named:
        drop(folder, key)
    shutil.rmtree(folder / "refused", ignore_errors=True)
    return Pruned(len(broken), len(named), drop_leftovers(folder))


def _is_dead(name: str) -> bool:
    """Whether the process that made a folder called HOST-PID-RANDOM is known to be gone."""
    host, _, pid = name.rpartition("-")[0].rpartition("-")
    if host != socket.gethostname() or os.name != "posix":
        return name.startswith("dropped-")
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # alive, another user's
        return False
    return _is_zombie(int(pid))


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended and only waits to be asked how, for as long as its parent takes; Linux tells."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


class _Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 4)
        self._last = now


def _labels_on(prepared: Volume, scan: Volume, source: Source, id: str) -> np.ndarray:
    labels = source.labels(id)
    if labels is None:
        raise ValueError("a labelled cache takes scans with labels, this one has none")
    return check_same_grid(scan, labels, name=source.path(id)).onto(prepared, order=0, fill=0).image


def _write(path: Path, data: bytes) -> list[int]:
    path.write_bytes(data)
    return _sums(data)


def _sums(data: bytes) -> list[int]:
    return [len(data), zlib.crc32(data)]
