"""A scan's vectors, ready to be searched for the voxel most like a given one."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vox2vec.inference.embedding import Embedding

_SLAB_VALUES = 2**25  # similarities held at a time, 128 MiB
_QUERIES = 32  # searched together
_BLOCK_VALUES = 2**22  # similarities of voxels that ask together, 16 MiB: they stay in the processor's cache
_GROUP = 32  # values of which first only the maximum is looked at


@dataclass(frozen=True, eq=False)
class Index:
    """An embedding with the norms of its vectors; kept between searches.

    Attributes:
        embedding: of the scan.
        weights: of each level, finest first: vectors are compared after their levels are multiplied by these.
        averaged: whether the vectors are means over neighbouring cells, see `Embedding.averaged`.
    """

    embedding: Embedding
    weights: Sequence[float]
    averaged: bool
    _inverse_norm: Tensor = field(repr=False)  # (x, y, z), 0 where no voxel is to be found

    @classmethod
    def of(
        cls,
        embedding: Embedding,
        *,
        weights: Sequence[float] | None = None,
        among: Bool[np.ndarray, "x y z"] | None = None,
        average: bool = False,
    ) -> "Index":
        """Measure the norms, level by level.

        Args:
            weights: of the levels, all 1 by default.
            among: voxels of the prepared grid that may be found; the body by default.
            average: search means over neighbouring cells; as much memory again, unless the embedding is let go.

        Raises:
            ValueError: not one weight a level, or no voxel that may be found.
        """
        weights = checked_weights(weights, len(embedding.pyramid))
        allowed = torch.from_numpy(embedding.has_vector() & (embedding.body if among is None else among))
        if not bool(allowed.any()):
            raise ValueError("no voxel that may be found has a vector; is the mask empty, or of another scan?")
        if average:
            embedding = embedding.averaged()
        square = torch.from_numpy(embedding.squared_norm(weights))
        return cls(embedding, weights, average, torch.where(allowed, square.clamp(min=1e-24).rsqrt(), 0))

    @property
    def may_be_found(self) -> Bool[Tensor, "x y z"]:
        """Which voxels of the prepared grid have a vector and are among those asked for."""
        return self._inverse_norm > 0

    def search(self, vectors: Float[Tensor, "q d"]) -> tuple[Int64[Tensor, "q 3"], Float[Tensor, " q"]]:
        """For each vector the voxel of the highest cosine similarity, and that similarity; exact.

        The scalar product with a voxel's vector is the sum over the levels of those with its cells, so each level is
        multiplied at its native stride, coarse to fine, and no full vector is ever formed.

        Raises:
            ValueError: vectors with NaN or of another width.
        """
        if vectors.shape[1] != self.embedding.num_channels or not bool(vectors.isfinite().all()):
            raise ValueError(
                f"vectors must be (q, {self.embedding.num_channels}) and finite, got {tuple(vectors.shape)}"
                f"{'' if vectors.isfinite().all() else ' with NaN: points without a vector'}"
            )
        if not len(vectors):
            return torch.zeros(0, 3, dtype=torch.long), torch.zeros(0)
        parts = [self._search(some) for some in vectors.float().split(_QUERIES)]
        places, scores = (torch.cat(part) for part in zip(*parts, strict=True))
        return places, scores

    def nearest(
        self, vectors: Float[Tensor, "n d"], voxels: Int64[Tensor, "v 3"], count: int
    ) -> tuple[Float[Tensor, "v k"], Int64[Tensor, "v k"]]:
        """For each voxel the `count` vectors most like its own: cosine similarities, highest first, and which; exact.

        The other way round than `search`: here the voxels ask. A level's products are formed once for each of its
        cells, not for each voxel.

        Args:
            voxels: of the prepared grid, each with a vector.
        """
        directions = self._directions(vectors.float())
        coarse = voxels // torch.tensor([max(s) for s in zip(*self.embedding.strides, strict=True)])
        order = torch.from_numpy(np.lexsort(coarse.T.numpy()))  # neighbours together: they share cells
        best = torch.empty(len(voxels), min(count, len(vectors)))
        which = torch.empty(best.shape, dtype=torch.long)
        for some in order.split(max(1, _BLOCK_VALUES // len(vectors))):
            inverse = self._inverse_norm[tuple(voxels[some].T)]
            value, which[some] = _highest(self._products_at(directions, voxels[some]), best.shape[1])
            best[some] = value * inverse[:, None]
        return best, which

    def weighted(self, vectors: Float[Tensor, "q d"]) -> Float[Tensor, "q d"]:
        """Vectors with their levels multiplied by the weights."""
        widths = [level.shape[0] for level in self.embedding.pyramid]
        parts = vectors.split(widths, dim=1)
        return torch.cat([part * weight for part, weight in zip(parts, self.weights, strict=True)], dim=1)

    def _directions(self, vectors: Tensor) -> list[Tensor]:
        """What each level is multiplied by for the cosine similarity, but for the norm of the level's voxels."""
        queries = torch.nn.functional.normalize(self.weighted(vectors), dim=1)
        widths = [level.shape[0] for level in self.embedding.pyramid]
        return [part.T * weight for part, weight in zip(queries.split(widths, 1), self.weights, strict=True)]

    def _search(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        directions = self._directions(vectors)
        x, y, z = self.embedding.shape
        coarsest = max(stride[0] for stride in self.embedding.strides)
        step = max(1, _SLAB_VALUES // (len(vectors) * y * z * coarsest)) * coarsest
        best = torch.full((len(vectors),), -torch.inf)
        place = torch.zeros(len(vectors), dtype=torch.long)
        for start in range(0, x, step):
            stop = min(start + step, x)
            inverse = self._inverse_norm[start:stop]
            if not bool(inverse.any()):
                continue
            similar = self._products(directions, start, stop) * inverse[..., None]
            similar[inverse == 0] = -torch.inf
            value, row = similar.reshape(-1, len(vectors)).max(dim=0)
            place = torch.where(value > best, row + start * y * z, place)
            best = torch.maximum(best, value)
        return torch.stack([place // (y * z), place // z % y, place % z], dim=1), best

    def _products(self, directions: Sequence[Tensor], start: int, stop: int) -> Float[Tensor, "x y z q"]:
        """Every direction's product with the vectors of a slab, from the coarsest level to the finest."""
        total: Tensor | None = None
        above = (1, 1, 1)
        levels = list(zip(self.embedding.pyramid, self.embedding.strides, directions, strict=True))
        for level, stride, part in reversed(levels):
            cells = level.movedim(0, -1)[start // stride[0] : -(-stop // stride[0])]
            product = cells.float() @ part
            if total is not None:
                product += _finer(total, [a // s for a, s in zip(above, stride, strict=True)], product.shape)
            total, above = product, stride
        _, y, z = self.embedding.shape
        return _finer(total, above, (stop - start, y, z))  # type: ignore[arg-type]

    def _products_at(self, directions: Sequence[Tensor], voxels: Int64[Tensor, "v 3"]) -> Float[Tensor, "v q"]:
        """The same for some voxels: of each level the cells that hold any of them."""
        total = torch.zeros(1, directions[0].shape[1])
        cell_of_voxel = torch.zeros(len(voxels), dtype=torch.long)  # at the level above
        levels = list(zip(self.embedding.pyramid, self.embedding.strides, directions, strict=True))
        for level, stride, part in reversed(levels):
            cells, inverse = (voxels // torch.tensor(stride)).unique(dim=0, return_inverse=True)
            if len(cells) == len(voxels):  # nothing is shared any more
                cells, inverse = voxels // torch.tensor(stride), torch.arange(len(voxels))
            values = level.movedim(0, -1)[tuple(cells.T)].float()
            above = torch.empty(len(cells), dtype=torch.long).scatter(0, inverse, cell_of_voxel)
            total = total[above].addmm_(values, part)
            cell_of_voxel = inverse
        return total if len(total) == len(voxels) else total[cell_of_voxel]


def checked_weights(weights: Sequence[float] | None, num_levels: int) -> list[float]:
    """Of the levels, all 1 where there are none.

    Raises:
        ValueError: not one for each level, one below 0, or nothing but 0.
    """
    checked = [1.0] * num_levels if weights is None else [float(w) for w in weights]
    if len(checked) != num_levels or min(checked) < 0 or not any(checked):
        raise ValueError(f"weights must be one for each of the {num_levels} levels, none negative, got {checked}")
    return checked


def _highest(values: Float[Tensor, "v q"], count: int) -> tuple[Float[Tensor, "v k"], Int64[Tensor, "v k"]]:
    """`topk` of each row, faster where rows are long: the `count` groups of the highest maxima hold all of them."""
    groups = values.shape[1] // _GROUP
    if groups <= 4 * count:
        return values.topk(count, dim=1)
    grouped = values[:, : groups * _GROUP].unflatten(1, (_GROUP, groups))  # a group is a column: its maximum is fast
    columns = grouped.amax(dim=1).topk(count, dim=1, sorted=False).indices
    places = torch.cat([columns + groups * row for row in range(_GROUP)], dim=1)
    rest = torch.arange(groups * _GROUP, values.shape[1]).expand(len(values), -1)
    places = torch.cat([places, rest], dim=1)
    found, at = values.gather(1, places).topk(count, dim=1)
    return found, places.gather(1, at)


def _finer(
    cells: Float[Tensor, "a b c q"] | Bool[Tensor, "a b c q"], ratio: Sequence[int], shape: Sequence[int]
) -> Tensor:
    """Each cell repeated `ratio` times along each axis, as many as `shape` has."""
    for axis in range(3):
        if ratio[axis] > 1:
            cells = cells.repeat_interleave(ratio[axis], axis)
        cells = cells.narrow(axis, 0, shape[axis])
    return cells
