"""Contrastive and VICReg pre-training of a backbone."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vox2vec.augmentation.intensity import draw_intensity, with_intensity
from vox2vec.augmentation.space import draw_space, with_space
from vox2vec.data.datasets import PairBatch
from vox2vec.losses.contrastive import info_nce
from vox2vec.losses.vicreg import vicreg
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.heads import ProjectionHead
from vox2vec.nn.pyramid import sample_pyramid
from vox2vec.reading.values import AIR_HU
from vox2vec.training.spread import alignment, effective_rank, negative_similarity, uniformity

_DESCRIBED_EVERY = 50  # steps between two looks at the embeddings' spread


class SpatialRanges(NamedTuple):
    """How far views differ in space beyond the crop; nothing by default, as in the released code."""

    flip_probability: float = 0.0
    rotation_deg: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)


class Pretraining(pl.LightningModule):
    """A backbone and a projector that learn to give a voxel the same vector in two patches.

    Each view goes through the networks by itself, as in the released code: its batch statistics are its own. One
    forward of both is no faster on a CPU (16.3 s against 15.6 s for 2 pairs of 128x128x32, forward and backward).

    Args:
        objective: "contrastive" (InfoNCE, projector of width 128) or "vicreg" (expander of width `expander_width`).
        optimizer: "adam" as released, at a constant rate; "adamw" warms up over `warmup_steps`, then falls by a
            cosine to zero at `max_steps`.
        weight_decay: of adamw; of matrices and kernels, never of biases and norms.
        channels_last: lay patches and weights out by voxel, channels beside each other.
        micro_batch_size: pairs whose activations are held at a time; each part goes forward again in backward, so
            that the negatives span the whole batch (arXiv 2101.06983). Batch statistics are each part's own. The whole
            batch by default.
        seed: of the augmentations, together with the batch's place in its stream.
        failure_path: where the CTs of a batch with a loss that is not finite are written.

    Source: docs/method.md section 3; arXiv 2307.14725, section 3.
    """

    def __init__(
        self,
        backbone: FPN3d,
        *,
        objective: str = "contrastive",
        temperature: float = 0.1,
        expander_width: int = 2048,
        learning_rate: float = 3e-4,
        optimizer: str = "adam",
        weight_decay: float = 0.05,
        warmup_steps: int = 500,
        max_steps: int = 100_000,
        spatial: SpatialRanges = SpatialRanges(),  # noqa: B008
        channels_last: bool = True,
        micro_batch_size: int | None = None,
        seed: int = 0,
        failure_path: Path = Path("failed_batch.json"),
    ) -> None:
        super().__init__()
        if objective not in ("contrastive", "vicreg"):
            raise ValueError(f'objective must be "contrastive" or "vicreg", got {objective!r}')
        if optimizer not in ("adam", "adamw"):
            raise ValueError(f'optimizer must be "adam" or "adamw", got {optimizer!r}')
        if micro_batch_size is not None and micro_batch_size < 1:
            raise ValueError(f"micro_batch_size must be at least one pair, got {micro_batch_size}")
        self._memory_format = torch.channels_last_3d if channels_last else torch.contiguous_format
        self._micro_batch_size = micro_batch_size
        self.backbone = backbone.train().to(memory_format=self._memory_format)  # type: ignore[call-overload]
        width = sum(backbone.base_channels * 2**level for level in range(backbone.num_scales))
        self.proj_head: nn.Module = (
            ProjectionHead(width) if objective == "contrastive" else _expander(width, expander_width)
        )
        self._loss: Callable[[Tensor, Tensor], Tensor] = (
            partial(info_nce, temperature=temperature) if objective == "contrastive" else vicreg
        )
        self._learning_rate, self._optimizer, self._weight_decay = learning_rate, optimizer, weight_decay
        self._warmup_steps, self._max_steps = warmup_steps, max_steps
        self._spatial, self._seed, self._failure_path = spatial, seed, failure_path

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """The loss of one batch of pairs; what is not finite ends the run with the batch's CTs on file."""
        levels, embeddings = self.embedded(batch)
        loss = self.loss_of(embeddings)
        if not bool(torch.isfinite(loss)):
            self._failure_path.write_text(
                json.dumps({"batch": batch.number, "ids": batch.ids, "loss": str(loss.item())}),
                encoding="utf-8",
            )
            raise FloatingPointError(
                f"the loss is {loss.item()} at step {self.global_step}; its CTs are in {self._failure_path}. Look at "
                "them, or lower the learning rate"
            )
        self.log("train/loss", loss.detach(), prog_bar=True)
        self.log("train/voxels", float(len(embeddings[0])))
        if batch_idx % _DESCRIBED_EVERY == 0:
            self.log_dict(described(levels, embeddings))
        return loss

    def embedded(self, batch: PairBatch) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
        """The first view's vectors by level, and the projected voxels (v, d) of both views."""
        generator = torch.Generator().manual_seed(_mixed(self._seed, batch.number))
        patches, voxels = self._views(batch, generator)
        size = self._micro_batch_size or len(batch.ids)
        vectors, embeddings = [], []
        for view, places in zip(patches, voxels, strict=True):
            parts = zip(view.split(size), _chunks(places, size), strict=True)
            found = [self._of_part(*part, again=size < len(batch.ids)) for part in parts]
            vectors.append(torch.cat([part for part, _ in found]))
            embeddings.append(torch.cat([part for _, part in found]))
        return list(vectors[0].detach().split(self.backbone.channels, dim=1)), (embeddings[0], embeddings[1])

    def loss_of(self, embeddings: tuple[Tensor, Tensor]) -> Tensor:
        """The objective of both views' projected voxels."""
        return self._loss(*embeddings)

    def configure_optimizers(self) -> Any:
        """Adam at a constant rate, or AdamW with warm-up and cosine."""
        if self._optimizer == "adam":
            return torch.optim.Adam(self.parameters(), lr=self._learning_rate)
        optimizer = torch.optim.AdamW(self._decayed_or_not(), lr=self._learning_rate)
        rest = max(1, self._max_steps - self._warmup_steps)
        warm = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, total_iters=max(1, self._warmup_steps))
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, rest)
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, fall], [max(1, self._warmup_steps)])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _decayed_or_not(self) -> list[dict[str, Any]]:
        """Matrices and kernels decay; a norm's scale, its shift and a bias have one axis, and do not."""
        many, one = ([p for p in self.parameters() if (p.ndim > 1) == decays] for decays in (True, False))
        return [{"params": many, "weight_decay": self._weight_decay}, {"params": one, "weight_decay": 0.0}]

    def _of_part(self, patches: Tensor, voxels: list[Tensor], *, again: bool) -> tuple[Tensor, Tensor]:
        """Vectors and projections of some patches' voxels; `again`, keeps no activations, recomputes them."""

        def forward(patches: Tensor, voxels: list[Tensor]) -> tuple[Tensor, Tensor]:
            pyramid = self.backbone(patches.contiguous(memory_format=self._memory_format))
            vectors = torch.cat([sample_pyramid([level[i] for level in pyramid], v) for i, v in enumerate(voxels)])
            return vectors, self.proj_head(vectors)

        if not again:
            return forward(patches, voxels)
        both_times = (nullcontext(), _without_statistics(self))
        return checkpoint(
            forward, patches, voxels, use_reentrant=False, preserve_rng_state=False, context_fn=lambda: both_times
        )

    def _views(self, batch: PairBatch, generator: torch.Generator) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Both patches of each pair, augmented, and the voxels that both still show."""
        window, patches, voxels, stayed = self.backbone.recipe.window_hu, [], [], []
        for view in (0, 1):
            laid, places = batch.patches_hu[view], [v[view] for v in batch.voxels]
            if self._spatial != SpatialRanges():
                spacing, ranges = self.backbone.recipe.spacing_mm, self._spatial._asdict()
                drawn = draw_space(len(batch.ids), generator=generator, spacing_mm=spacing, **ranges)
                laid, places, inside = with_space(laid, places, drawn, fill=AIR_HU)
                stayed.append(inside)
            intensity = draw_intensity(len(batch.ids), generator=generator, full_window_hu=window)
            patches.append(with_intensity(laid, intensity))
            voxels.append(places)
        if stayed:
            both = [one & other for one, other in zip(*stayed, strict=True)]
            voxels = [
                [v[together[inside]] for v, together, inside in zip(places, both, insides, strict=True)]
                for places, insides in zip(voxels, stayed, strict=True)
            ]
        return patches, voxels


def described(levels: list[Float[Tensor, "v _"]], embeddings: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Whether the embeddings agree between views, spread over the sphere, and use their dimensions."""
    a, b = (nn.functional.normalize(view.detach().float(), dim=1) for view in embeddings)
    measured = {
        "spread/positive_similarity": float((a * b).sum(dim=1).mean()),
        "spread/negative_similarity": negative_similarity(a, b),
        "spread/alignment": alignment(a, b),
        "spread/uniformity": uniformity(a),
    }
    return measured | {f"spread/effective_rank_{i}": effective_rank(level) for i, level in enumerate(levels)}


@contextmanager
def _without_statistics(module: nn.Module) -> Iterator[None]:
    """The batch norms in train mode take no running statistics: they did the first time."""
    norms: list[Any] = [norm for norm in module.modules() if isinstance(norm, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = torch.zeros_like(norm.num_batches_tracked)
    try:
        yield
    finally:
        for norm, (momentum, counted) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, counted


def _chunks(items: list[Tensor], size: int) -> list[list[Tensor]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _expander(width: int, out: int) -> nn.Sequential:
    """VICReg's: three linear layers, batch norm and ReLU between them (arXiv 2105.04906, section 4.2)."""
    return nn.Sequential(
        nn.Linear(width, out),
        nn.BatchNorm1d(out),
        nn.ReLU(),
        nn.Linear(out, out),
        nn.BatchNorm1d(out),
        nn.ReLU(),
        nn.Linear(out, out),
    )


def _mixed(seed: int, index: int) -> int:
    """A seed of its own for each batch of each run."""
    return (seed * 1_000_003 + index * 7_919 + 12_345) % 2**63
