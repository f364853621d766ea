"""Points of structures that only one of two labelled scans holds: how many `match` says to have no counterpart.

python -m benchmarks.absent ../shared/data

Beside it, of points of structures that both hold, how many are matched. Labels are automatic: a structure that one scan
was not found to hold may still have its place there (a gallbladder, a vertebra at the scan's end).
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vox2vec.data.sources.labelled import labelled_data, read_names
from vox2vec.evaluation.table import markdown
from vox2vec.inference.embed import Embedder
from vox2vec.matching.field import Field
from vox2vec.matching.index import Index
from vox2vec.matching.landmarks import match
from vox2vec.matching.matches import MATCHED, NO_COUNTERPART, NO_VECTOR
from vox2vec.nn.pretrained import vox2vec_small
from vox2vec.volume import Volume

POINTS = 20  # of a structure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="../shared/data")
    folder = parser.parse_args().data / "labelled"
    source, names = labelled_data(folder), read_names(folder / "names.json")
    embedder = Embedder(vox2vec_small(), progress=False)
    indices = {id: Index.of(embedder(source.load(id)), average=True) for id in source.ids}
    points = {id: points_of(source.labels(id), names) for id in source.ids}
    rows = []
    for here, there in (source.ids, source.ids[::-1]):
        shared = set(points[here]) & set(points[there])
        field = Field.between(indices[here], indices[there])
        rows.append([f"{here} to {there}"])
        for wanted, structures in ((NO_COUNTERPART, set(points[here]) - shared), (MATCHED, shared)):
            told = {
                name: share(match(indices[here], points[here][name], indices[there], field=field).status, wanted)
                for name in sorted(structures)
            }
            few = ", ".join(f"{name} {value:.0%}" for name, value in told.items() if value < 0.9)
            rows[-1] += [f"{np.nanmean(list(told.values())):.1%} of {len(told)} structures", few]
    head = ["", "no counterpart, where only one holds it", "below 90 %", "matched, where both hold it", "below 90 %"]
    print(markdown(head, rows))


def points_of(labels: Volume, names: Mapping[int, str]) -> dict[str, np.ndarray]:
    """Points of each structure, drawn by chance, always the same; RAS+ millimetres."""
    rng = np.random.default_rng(0)
    numbers = [number for number in np.unique(labels.image).tolist() if number in names]
    return {names[n]: labels.to_mm(rng.permutation(np.argwhere(labels.image == n))[:POINTS]) for n in numbers}


def share(status: Sequence[str], wanted: str) -> float:
    """Of the points that the source has a vector of."""
    known = [one for one in status if one != NO_VECTOR]
    return sum(one == wanted for one in known) / len(known) if known else float("nan")


if __name__ == "__main__":
    main()
