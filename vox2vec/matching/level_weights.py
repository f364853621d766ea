"""How much each level of the pyramid should count where vectors are compared, learned without labels."""

from collections.abc import Iterable, Sequence
from os import PathLike

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vox2vec.inference.embed import Embedder
from vox2vec.matching.deformation import bent_pair
from vox2vec.matching.recovery import points_of
from vox2vec.nn.fpn import FPN3d
from vox2vec.preprocessing.prepare import prepare_hu
from vox2vec.reading.load import load_volume
from vox2vec.volume import Volume

_STEPS, _RATE = 300, 0.05
_TEMPERATURE = 0.05


def learn_level_weights(
    backbone: FPN3d,
    scans: Iterable[Volume | str | PathLike[str]],
    *,
    seed: int = 0,
    num_points: int = 200,
    device: str | torch.device = "auto",
) -> list[float]:
    """Weights of the levels, finest first, the largest 1, for `Index.of(embedding, weights=...)`.

    Points of each scan are compared, as `match` compares them, with the same points of its bent, noisy copy; InfoNCE
    over them (temperature 0.05) says which weights tell a point from the others best.

    Args:
        scans: HU in any orientation, or paths; a handful, of patients other than those to be matched.
        seed: of the copies and the points.
        num_points: of each scan.

    Raises:
        ValueError: no scans, or one without a body.
    """
    embedder = Embedder(backbone, device=device, progress=False)
    pairs = []
    for number, scan in enumerate(scans):
        volume = scan if isinstance(scan, Volume) else load_volume(scan)
        pair = bent_pair(prepare_hu(volume, backbone.recipe), seed + number)
        source, target = (embedder(image).averaged() for image in (pair.scan, pair.copy))
        truth, vectors = points_of(pair, source, target, seed=seed + number, num_points=num_points)
        pairs.append((vectors, target.at(truth)))
    if not pairs:
        raise ValueError("level weights are learned from at least one scan, got none")
    return fit_level_weights(pairs, backbone.channels)


def fit_level_weights(
    pairs: Sequence[tuple[Float[Tensor, "v d"], Float[Tensor, "v d"]]], channels: Sequence[int]
) -> list[float]:
    """Weights under which row i of one side of a pair is told best from the other rows by row i of the other side.

    Args:
        pairs: vectors of the same points in two scans, levels finest first; points of different pairs are not compared.
        channels: width of each level.
    """
    logs = torch.zeros(len(channels), requires_grad=True)  # of logarithms: no weight becomes negative
    optimizer = torch.optim.Adam([logs], lr=_RATE)
    for _ in range(_STEPS):
        losses = [_info_nce(*(_weighted(side, logs.exp(), channels) for side in pair)) for pair in pairs]
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
    weights = logs.detach().exp()
    return (weights / weights.max()).tolist()


def _weighted(vectors: Float[Tensor, "v d"], weights: Tensor, channels: Sequence[int]) -> Float[Tensor, "v d"]:
    return F.normalize(vectors * weights.repeat_interleave(torch.tensor(channels)), dim=1)


def _info_nce(one: Float[Tensor, "v d"], other: Float[Tensor, "v d"]) -> Float[Tensor, ""]:
    return F.cross_entropy(one @ other.T / _TEMPERATURE, torch.arange(len(one)))
