"""A published data set by the names of its files, zipped or unpacked."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from vox2vec.data.sources.archives import niftis_below
from vox2vec.data.sources.source import LeftOut, ListedSource
from vox2vec.data.sources.stored import ArchivedNifti, PlainFile


def by_pattern(
    name: str,
    root: Path,
    *,
    image: Mapping[str, str],
    label: Mapping[str, str] | None = None,
    label_names: Mapping[int, str] | None = None,
    expected: str,
    refused: Callable[[str], str | None] = lambda id: None,
) -> ListedSource:
    """The scans whose path below `root` matches a pattern.

    Args:
        image: regular expressions with a group "number"; the scan's id is the value, formatted with the number.
        label: the same, for labels.
        expected: how the layout looks, for the message where nothing is found.
        refused: why a scan of that id is left out, or None.

    Raises:
        ValueError: no such folder, or none of its files matches.
    """
    if not root.is_dir():
        raise ValueError(f"{name} must be a folder, {root} is none; expected in it: {expected}")
    files, left_out = niftis_below(root)
    scans: dict[str, PlainFile | ArchivedNifti] = {}
    labels: dict[str, PlainFile | ArchivedNifti] = {}
    for place, file in files:
        for patterns, found in ((image, scans), (label or {}, labels)):
            id = _id(place, patterns)
            if id is None:
                continue
            reason = refused(id)
            if reason is not None:
                if found is scans:
                    left_out.append(LeftOut(str(file), reason))
            elif id in found:
                left_out.append(LeftOut(str(file), f"a second file of {id}; read is {found[id]}"))
            else:
                found[id] = file
    if not scans:
        raise ValueError(f"no scan of {name} in {root}; expected: {expected}")
    return ListedSource(name, scans, {i: f for i, f in labels.items() if i in scans}, left_out, label_names or {})


def _id(place: str, patterns: Mapping[str, str]) -> str | None:
    for pattern, id in patterns.items():
        match = re.search(pattern, place)
        if match:
            return id.format(number=match["number"])
    return None
