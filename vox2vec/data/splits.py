"""Who is trained on and who is tested on: always by patient, always the same."""

from collections.abc import Sequence
from dataclasses import dataclass

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
    """The paper's split of a labelled data set, fold 0 to 4.

    As `KFold(5, shuffle=True, random_state=42)` over the sorted ids, then `train_test_split(test_size=num_val,
    random_state=42)`, both of scikit-learn, without needing it.

    Raises:
        ValueError: fewer ids than folds, or no such fold.
    """
    if not 0 <= fold < FOLDS:
        raise ValueError(f"the fold must be 0 to {FOLDS - 1}, got {fold}")
    if len(ids) < FOLDS or len(ids) - -(-len(ids) // FOLDS) <= num_val:
        raise ValueError(f"{FOLDS} folds and {num_val} to choose by need more scans, got {len(ids)}")
    ordered = np.array(sorted(ids))
    shuffled = np.arange(len(ordered))
    np.random.RandomState(_SEED).shuffle(shuffled)
    test = np.sort(np.array_split(shuffled, FOLDS)[fold])
    rest = np.setdiff1d(np.arange(len(ordered)), test)
    permuted = rest[np.random.RandomState(_SEED).permutation(len(rest))]
    val, train = permuted[:num_val], permuted[num_val:]
    return Split(*(tuple(ordered[part].tolist()) for part in (train, val, test)))
