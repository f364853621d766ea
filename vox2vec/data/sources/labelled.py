"""Labelled CTs alone: the paper's own sets, and anyone's; what lies there without labels is left out."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vox2vec.data.sources.dataset_json import label_names_of, msd
from vox2vec.data.sources.own import own_data
from vox2vec.data.sources.public_sets import btcv
from vox2vec.data.sources.source import ListedSource, Source
from vox2vec.data.sources.structures import MSD_TASKS


def labelled(source: ListedSource) -> ListedSource:
    """The scans that have labels.

    Raises:
        ValueError: none has.
    """
    chosen = source.with_labels_only()
    if not chosen.ids:
        raise ValueError(f"{source.name} must hold scans with labels, none of its {len(source.ids)} scans has any")
    return chosen


def labelled_data(images: Path, *, labels: Path | None = None, names: Path | None = None) -> ListedSource:
    """The labelled scans of `own_data`.

    Args:
        labels: a folder of label files named as the scans; where it is `images` itself, they lie beside the scans.
        names: a JSON file, as of `read_names`; by default the data's own names.

    Raises:
        ValueError: no such data, no labels, or no names in the file.
    """
    if labels is not None and labels.resolve() == images.resolve():
        labels = None
    source = labelled(own_data(images, labels=labels))
    return source if names is None else replace(source, label_names=read_names(names))


def msd_tasks(root: Path) -> dict[str, Source]:
    """Each CT task of the Medical Segmentation Decathlon by its folder, such as "Task03_Liver"; all must be there."""
    return {task: labelled(msd(root, task)) for task in MSD_TASKS.values()}


def papers_sets(btcv_dir: Path | None, msd_dir: Path | None) -> dict[str, Source]:
    """BTCV as "btcv", and the CT tasks of the Decathlon by their folders, as far as they are there."""
    found: dict[str, Source] = {}
    if btcv_dir is not None:
        found["btcv"] = labelled(btcv(btcv_dir))
    if msd_dir is not None:
        there = (t for t in MSD_TASKS.values() if (msd_dir / t).is_dir() or (msd_dir / f"{t}.tar").is_file())
        found |= {task: labelled(msd(msd_dir, task)) for task in there}
    return found


def read_names(path: Path) -> Mapping[int, str]:
    """Structures by number, of a JSON file: {"1": "liver"} or {"liver": 1}."""
    try:
        names = label_names_of({"labels": json.loads(path.read_text(encoding="utf-8"))})
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(
            f'names of structures must be a JSON file like {{"1": "liver"}}, {path} is not ({error})'
        ) from error
    if not names:
        raise ValueError(f"names must name at least one structure, {path} names none")
    return names
