"""What a pre-training is: its network, its method, how long and how fast, what is watched; defaults are published."""

from dataclasses import dataclass
from typing import Literal

from vox2vec.data.sources.source import Source
from vox2vec.data.views import MAX_PAIRS


@dataclass(frozen=True)
class Network:
    """The backbone that learns.

    Attributes:
        base_channels: of the finest level; each coarser one has twice as many.
        num_scales: levels.
    """

    base_channels: int = 16
    num_scales: int = 6


@dataclass(frozen=True)
class Method:
    """What is learned, from which views.

    Attributes:
        objective: "contrastive" is the published method.
        temperature: of InfoNCE.
        expander_width: of VICReg.
        batch_size: pairs of patches.
        micro_batch_size: pairs whose activations are held at a time; None: of the whole batch.
        patches_per_volume: pairs of one CT; None: the whole batch, as released.
        balance: draw from each data set equally often, rather than from each CT.
        max_num_voxels: voxel pairs of two patches, at most.
        flip: probability, each axis.
        rotation: degrees, either way, each axis.
        scale: the lowest and the highest.

    Source: docs/method.md section 3; arXiv 2307.14725, sections 3 and 4.
    """

    objective: Literal["contrastive", "vicreg"] = "contrastive"
    temperature: float = 0.1
    expander_width: int = 2048
    batch_size: int = 10
    micro_batch_size: int | None = None
    patches_per_volume: int | None = None
    balance: bool = False
    max_num_voxels: int = MAX_PAIRS
    flip: float = 0.0
    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class Schedule:
    """How long it learns, and how fast.

    Attributes:
        lr: the learning rate.
        optimizer: "adam" at a constant rate, or "adamw" with warm-up and cosine.
        warmup_steps: of adamw.
        num_batches_per_epoch: an epoch is what the watchers count in.
        save_every: steps between two last.ckpt.
    """

    lr: float = 3e-4
    optimizer: Literal["adam", "adamw"] = "adam"
    warmup_steps: int = 500
    max_steps: int = 100_000
    num_batches_per_epoch: int = 100
    save_every: int = 200


@dataclass(frozen=True)
class Watch:
    """What is looked at while it learns.

    Attributes:
        probe: labelled CTs, never learned from: heads learn on fold 0 of five, and their Dice is logged.
        probe_every: epochs between two Dice.
        monitor_every: epochs between two looks at one CT without labels, points found again in a bent copy of it, and
            pictures: the probe's validation CT, or else one that is spared from ten or more; 0: never.
    """

    probe: Source | None = None
    probe_every: int = 10
    monitor_every: int = 10
