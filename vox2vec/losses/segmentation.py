"""The loss of segmentation heads: cross-entropy and Dice of each class by itself, inside the body."""

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

_SMOOTHING = 1.0  # voxels added to the denominator of Dice, so that an absent class costs nothing when left out


def bce_dice(
    logits: Float[Tensor, "n c x y z"], targets: Float[Tensor, "n c x y z"], body: Bool[Tensor, "n x y z"]
) -> Float[Tensor, ""]:
    """`mean BCE + 1 - mean_{n, c} 2 sum(p t) / (sum(p^2) + sum(t^2) + 1)` over the voxels of the body.

    Args:
        logits: one a class; classes are independent (sigmoid), background is none of them.
        targets: 0 or 1.

    Source: docs/method.md section 4, the original's numbers in `reference.npz`; Milletari et al., arXiv 1606.04797.
    """
    inside = body[:, None].to(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * inside
    mean_entropy = entropy.sum() / (inside.sum() * logits.shape[1]).clamp_min(1)
    p, t = logits.sigmoid() * inside, targets * inside
    overlap = 2 * (p * t).sum(dim=(2, 3, 4))
    sizes = p.square().sum(dim=(2, 3, 4)) + t.square().sum(dim=(2, 3, 4)) + _SMOOTHING
    return mean_entropy + 1 - (overlap / sizes).mean()
