"""One step of heads on labelled patches: fresh heads, their input, their losses, and a fresh network's statistics."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vox2vec.data.datasets import LabelledBatch, LabelledBatches
from vox2vec.losses.segmentation import bce_dice
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.head_file import KINDS
from vox2vec.preprocessing.intensity import scaled_hu


def fresh_heads(backbone: FPN3d, num_classes: int, kinds: Sequence[str], *, seed: int) -> dict[str, nn.Module]:
    """Untrained heads by kind, "linear" or "nonlinear", the same for a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {kind: KINDS[kind](backbone.base_channels, backbone.num_scales, num_classes) for kind in kinds}


def head_losses(
    backbone: FPN3d, heads: nn.ModuleDict, numbers: Sequence[int], batch: LabelledBatch, *, frozen: bool
) -> dict[str, Tensor]:
    """BCE and Dice of each head on one batch; through a frozen backbone goes neither gradient nor statistics."""
    device = next(heads.parameters()).device
    with evaluating(backbone) if frozen else nullcontext(), torch.set_grad_enabled(not frozen):
        pyramid = backbone(network_input(batch, backbone))
    targets, body = one_hot(batch.labels.to(device), numbers), batch.body.to(device)
    return {name: bce_dice(head(pyramid).float(), targets, body) for name, head in heads.items()}


def measure_statistics(backbone: FPN3d, batches: LabelledBatches, *, count: int = 16) -> None:
    """Give a fresh network the batch norms' statistics of `count` batches of patches; labels play no part.

    A fresh network's own are placeholders (mean 0, variance 1), with which its features hardly vary and no head learns
    from them: it would be no fair thing to compare with.
    """
    norms = [norm for norm in backbone.modules() if isinstance(norm, nn.BatchNorm3d)]
    before, was_training = [norm.momentum for norm in norms], backbone.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    backbone.train()
    with torch.no_grad():
        for i in range(count):
            backbone(network_input(batches[i], backbone))
    backbone.train(was_training)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum


def network_input(batch: LabelledBatch, backbone: FPN3d) -> Float[Tensor, "n 1 x y z"]:
    """A batch's patches in [0, 1], on the backbone's device, where they are scaled."""
    return scaled_hu(batch.patches_hu.to(next(backbone.parameters()).device), backbone.recipe.window_hu)


def one_hot(labels: Int64[Tensor, "n x y z"], numbers: Sequence[int]) -> Float[Tensor, "n c x y z"]:
    """1 where the label is the class's number."""
    return torch.stack([labels == number for number in numbers], dim=1).float()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode for a while: no statistics are taken."""
    was_training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in was_training.items():
            part.training = mode
