"""Who is trained on and who is tested on: always by patient, always the same."""

import json
from collections.abc import Sequence
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
            for name, parts in json.loads(path.read_text()).items()
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f'splits must be JSON like {{"0": {{"train": ["a"], "val": [], "test": ["b"]}}}}, {path} is not ({error})'
        ) from error
    for name, split in named.items():
        unknown = sorted({*split.train, *split.val, *split.test} - set(ids))
        if unknown:
            raise ValueError(f"split {name} of {path} must name scans that are there, {unknown[:3]} are not")
        patients = [{patient_of(id) for id in part} for part in (split.train, split.val, split.test)]
        if sum(map(len, patients)) > len(set.union(*patients)):
            raise ValueError(f"split {name} of {path} must keep each patient in one part, train, val or test")
        if not split.train or not split.test:
            raise ValueError(f"split {name} of {path} must have scans to train on and to test on")
    return named


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
