"""Who is trained on and who is tested on: always by patient, always the same."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

FOLDS = 5
_SEED = 42


@dataclass(frozen=True)
class Split:
    """Ids to train on, to choose by, and to test on."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


def published_split(ids: Sequence[str], fold: int, *, num_val: int = 1) -> Split:
    """The paper's split of a labelled data set, fold 0 to 4, by patient: the part of an id before a "/".

    As `KFold(5, shuffle=True, random_state=42)` over the sorted patients, then `train_test_split(test_size=num_val,
    random_state=42)`, both of scikit-learn, without needing it.

    Raises:
        ValueError: fewer patients than folds, or no such fold.
    """
    patients = sorted({patient_of(id) for id in ids})
    if not 0 <= fold < FOLDS:
        raise ValueError(f"the fold must be 0 to {FOLDS - 1}, got {fold}")
    if len(patients) < FOLDS or len(patients) - -(-len(patients) // FOLDS) <= num_val:
        raise ValueError(
            f"{FOLDS} folds and {num_val} to choose by need more patients, got {len(patients)}; a patient is what "
            f'stands before the "/" in an id, such as {sorted(ids)[:2]}'
        )
    shuffled = np.arange(len(patients))
    np.random.RandomState(_SEED).shuffle(shuffled)
    test = np.sort(np.array_split(shuffled, FOLDS)[fold])
    rest = np.setdiff1d(np.arange(len(patients)), test)
    permuted = rest[np.random.RandomState(_SEED).permutation(len(rest))]
    scans: dict[str, list[str]] = {patient: [] for patient in patients}
    for id in sorted(ids):
        scans[patient_of(id)].append(id)
    parts = permuted[num_val:], permuted[:num_val], test
    return Split(*(tuple(id for i in part for id in scans[patients[i]]) for part in parts))


def splits_from_file(path: Path, ids: Sequence[str]) -> dict[str, Split]:
    """One's own splits, by name: JSON such as {"0": {"train": [ids], "val": [ids], "test": [ids]}, ...}.

    Raises:
        ValueError: not of that form, an id that is not there, or a patient in two parts of a split.
    """
    try:
        named = {
            str(name): Split(**{k: tuple(v) for k, v in parts.items()})
            for name, parts in json.loads(path.read_text(encoding="utf-8")).items()
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f'splits must be JSON like {{"0": {{"train": ["a"], "val": [], "test": ["b"]}}}}, {path} is not ({error})'
        ) from error
    for name, split in named.items():
        _check(split, ids, f"split {name} of {path}")
    return named


def chosen_splits(
    ids: Sequence[str],
    *,
    split: str = "all",
    splits: Mapping[str, Split] | Path | None = None,
    num_val: int = 1,
    train_size: int | None = None,
    seed: int = 0,
) -> dict[str, Split]:
    """The splits to run, by name.

    Args:
        split: one of the names, or "all".
        splits: by name, or a file of them; by default the published folds "0" to "4", each with `num_val` patients to
            choose by.
        train_size: scans to train on, drawn by `seed`; by default all.

    Raises:
        ValueError: no such split, or one that the scans do not allow.
    """
    if isinstance(splits, Path):
        named = splits_from_file(splits, ids)
    elif splits is not None:
        named = dict(splits)
        for name, each in named.items():
            _check(each, ids, f"split {name}")
    else:
        named = {str(fold): published_split(ids, fold, num_val=num_val) for fold in range(FOLDS)}
    if split not in ("all", *named):
        raise ValueError(f"the split must be one of {', '.join(named)}, or all; got {split!r}")
    chosen = named if split == "all" else {split: named[split]}
    if train_size is None:
        return chosen
    return {name: few_shot(each, train_size, seed=seed) for name, each in chosen.items()}


def few_shot(split: Split, train_size: int, *, seed: int) -> Split:
    """The same with `train_size` scans to train on, drawn by seed; a larger draw of a seed holds a smaller one.

    Raises:
        ValueError: fewer scans to train on.
    """
    if not 1 <= train_size <= len(split.train):
        raise ValueError(f"train_size must be 1 to the {len(split.train)} scans of the split, got {train_size}")
    drawn = np.random.default_rng(seed).permutation(len(split.train))[:train_size]
    return replace(split, train=tuple(split.train[i] for i in drawn))


def patient_of(id: str) -> str:
    """Whose scan an id is."""
    return id.split("/")[0]


def _check(split: Split, ids: Sequence[str], name: str) -> None:
    unknown = sorted({*split.train, *split.val, *split.test} - set(ids))
    if unknown:
        raise ValueError(f"{name} must name scans that are there, {unknown[:3]} are not")
    patients = [{patient_of(id) for id in part} for part in (split.train, split.val, split.test)]
    if sum(map(len, patients)) > len(set.union(*patients)):
        raise ValueError(f"{name} must keep each patient in one part, train, val or test")
    if not split.train or not split.test:
        raise ValueError(f"{name} must have scans to train on and to test on")
