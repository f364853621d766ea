"""Structures from one or a few labelled scans without training: each voxel asks the labelled voxels most like it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64, Integer, Shaped
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from vox2vec.inference.embedding import Embedding
from vox2vec.inference.segmentation import label_dtype
from vox2vec.matching.index import Index

_SLAB = 32  # slices along x that are voted on together
_SPREADS = 3.0  # where a Gaussian ends


@dataclass(frozen=True, eq=False)
class LabelledVoxels:
    """Vectors of voxels whose structure is known.

    Attributes:
        vectors: of the voxels.
        classes: 0 is the rest of the body, i the i-th of `label_names`.
        stands_for: how many voxels of the examples each one was drawn for.
        label_names: number to structure.
        fingerprint: of the weights.
    """

    vectors: Float32[Tensor, "n d"]
    classes: Int64[Tensor, " n"]
    stands_for: Float32[Tensor, " n"]
    label_names: Mapping[int, str]
    fingerprint: str

    @classmethod
    def of(
        cls,
        embedding: Embedding,
        labels: Shaped[np.ndarray, "x y z"],
        label_names: Mapping[int, str],
        *,
        per_structure: int = 500,
        of_body: int = 5000,
        seed: int = 0,
    ) -> "LabelledVoxels":
        """Draw voxels of one labelled scan, all of a structure that has fewer.

        Args:
            labels: on the prepared grid; numbers that have no name are body.
            per_structure, of_body: how many voxels at most.

        Raises:
            ValueError: labels of another grid.
        """
        if labels.shape != embedding.shape:
            raise ValueError(f"labels must be on the prepared grid, {embedding.shape}, got {labels.shape}")
        rng = np.random.default_rng([seed, 61])
        usable = embedding.body & embedding.has_vector()
        masks = [usable & ~np.isin(labels, list(label_names)), *(usable & (labels == n) for n in label_names)]
        places, classes, counts = [], [], []
        for number, mask in enumerate(masks):
            flat = np.flatnonzero(mask)
            drawn = rng.permutation(flat)[: per_structure if number else of_body]
            places.append(np.stack(np.unravel_index(drawn, embedding.shape), axis=1))
            classes.append(np.full(len(drawn), number))
            counts.append(np.full(len(drawn), len(flat) / max(len(drawn), 1)))
        vectors = embedding.at(embedding.grid.to_mm(np.concatenate(places)))
        return cls(
            vectors,
            torch.from_numpy(np.concatenate(classes)),
            torch.from_numpy(np.concatenate(counts)).float(),
            dict(label_names),
            embedding.fingerprint,
        )

    @classmethod
    def joined(cls, parts: Sequence["LabelledVoxels"], *, at_most: int = 40_000, seed: int = 0) -> "LabelledVoxels":
        """Of several scans, thinned by chance where they are more than `at_most`.

        Raises:
            ValueError: their weights or structures differ, there are none, or no voxel of any structure.
        """
        if not parts:
            raise ValueError("at least one labelled scan is needed, got none")
        first = parts[0]
        if any(part.fingerprint != first.fingerprint or part.label_names != first.label_names for part in parts):
            raise ValueError("labelled voxels must be of the same weights and name the same structures")
        vectors, classes, stands_for = (
            torch.cat([getattr(part, name) for part in parts]) for name in ("vectors", "classes", "stands_for")
        )
        if not bool(classes.any()):
            raise ValueError(f"none of the structures stands in the labels: {', '.join(first.label_names.values())}")
        if len(classes) > at_most:
            kept = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))[:at_most]
            share = at_most / len(classes)
            vectors, classes, stands_for = vectors[kept], classes[kept], stands_for[kept] / share
        return cls(vectors, classes, stands_for, first.label_names, first.fingerprint)


def vote_slabs(
    index: Index,
    examples: LabelledVoxels,
    *,
    neighbours: int = 20,
    temperature: float = 0.05,
    smoothing_mm: float = 3.0,
) -> Iterator[tuple[slice, Float32[np.ndarray, "c _ y z"]]]:
    """The share of votes of the rest of the body and of each structure, slab by slab along x; 0 where no voxel asks.

    A voxel asks the `neighbours` labelled voxels of the highest cosine similarity s; each votes for its class by
    `exp(s / temperature) * stands_for`, and the votes are divided by their sum.

    Args:
        index: of the scan; its `among` are the voxels that ask.
        smoothing_mm: standard deviation of a Gaussian that the shares are averaged by; 0: none.

    Raises:
        ValueError: examples of other weights, or a number out of range.
    """
    if examples.fingerprint != index.embedding.fingerprint:
        raise ValueError(
            f"examples must be embedded by the same weights as the scan, got {examples.fingerprint} and "
            f"{index.embedding.fingerprint}; embed one again"
        )
    if neighbours < 1 or temperature <= 0 or smoothing_mm < 0:
        raise ValueError(
            f"neighbours must be at least 1, temperature above 0 and smoothing_mm not below, got {neighbours}, "
            f"{temperature} and {smoothing_mm}"
        )
    slabs = _votes(index, examples, neighbours, temperature)
    if smoothing_mm:
        return smoothed(slabs, [smoothing_mm / s for s in index.embedding.grid.spacing_mm])
    return slabs


def labels_by_neighbours(index: Index, examples: LabelledVoxels, **options: float) -> Integer[np.ndarray, "x y z"]:
    """The number of the structure with the most votes on the prepared grid, 0 for the rest; options of `vote_slabs`."""
    votes = vote_slabs(index, examples, **options)  # type: ignore[arg-type]
    return labels_of_votes(votes, index.embedding.shape, list(examples.label_names))


def labels_of_votes(
    slabs: Iterable[tuple[slice, Float32[np.ndarray, "c _ y z"]]], shape: Sequence[int], numbers: Sequence[int]
) -> Integer[np.ndarray, "x y z"]:
    """The number of the class with the most votes, slab by slab along x; the first class is 0, and so is no vote."""
    told = np.array([0, *numbers], label_dtype(numbers))
    labels = np.zeros(shape, told.dtype)
    for place, votes in slabs:
        labels[place] = told[votes.argmax(axis=0)]
    return labels


def _votes(
    index: Index, examples: LabelledVoxels, neighbours: int, temperature: float
) -> Iterator[tuple[slice, np.ndarray]]:
    x, y, z = index.embedding.shape
    num_classes = len(examples.label_names) + 1
    for start in range(0, x, _SLAB):
        stop = min(start + _SLAB, x)
        votes = torch.zeros(num_classes, stop - start, y, z)
        i, j, k = index.may_be_found[start:stop].nonzero().unbind(dim=1)
        similar, which = index.nearest(examples.vectors, torch.stack([i + start, j, k], dim=1), neighbours)
        said = ((similar - similar[:, :1]) / temperature).exp() * examples.stands_for[which]
        shares = torch.zeros(len(similar), num_classes).scatter_add(1, examples.classes[which], said)
        votes[:, i, j, k] = (shares / shares.sum(dim=1, keepdim=True)).T
        yield slice(start, stop), votes.numpy()


def smoothed(
    slabs: Iterator[tuple[slice, Float32[np.ndarray, "c _ y z"]]], sigma: Sequence[float]
) -> Iterator[tuple[slice, Float32[np.ndarray, "c _ y z"]]]:
    """Slabs along x averaged by a Gaussian of `sigma` voxels, equal to the whole array's."""
    reach = int(_SPREADS * sigma[0] + 0.5)
    held: np.ndarray | None = None
    first = done = 0  # of what is held, and of what is still to be given
    for place, votes in slabs:
        for axis in (1, 2):
            votes = gaussian_filter1d(votes, sigma[axis], axis=axis + 1, mode="constant", truncate=_SPREADS)
        held = votes if held is None else np.concatenate([held, votes], axis=1)
        if place.stop - reach > done:
            whole = gaussian_filter1d(held, sigma[0], axis=1, mode="constant", truncate=_SPREADS)
            yield slice(done, place.stop - reach), whole[:, done - first : place.stop - reach - first]
            done = place.stop - reach
            kept = max(done - reach, first)
            held, first = held[:, kept - first :], kept
    if held is not None and first + held.shape[1] > done:
        whole = gaussian_filter1d(held, sigma[0], axis=1, mode="constant", truncate=_SPREADS)
        yield slice(done, first + held.shape[1]), whole[:, done - first :]
