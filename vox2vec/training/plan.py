"""What a pre-training will take, from a few steps of a copy of it."""

import copy
import time

import pytorch_lightning as pl
import torch

from vox2vec.data.datasets import PairBatch
from vox2vec.training.memory import peak_bytes
from vox2vec.training.pretraining import Pretraining

_MEASURED_STEPS = 2


def plan(module: Pretraining, batch: PairBatch, trainer: pl.Trainer) -> str:
    """Steps, sizes, time and memory, in words, measured on the run's device and precision; `module` stays as it is."""
    device = trainer.strategy.root_device
    seconds = min(_step_seconds(module, batch, trainer, device))
    recipe, pairs = module.backbone.recipe, len(batch.ids)
    million = sum(p.numel() for p in module.backbone.parameters()) / 1e6
    peak = _peak_bytes(device)
    memory = "" if peak is None else f", in {peak / 2**30:.1f} GiB"
    return (
        f"{trainer.max_steps} steps of {pairs} pairs of {'x'.join(map(str, recipe.patch_size))} patches; "
        f"{million:.1f} million parameters\n"
        f"on {device} a step takes {seconds:.1f} s, so the run {seconds * trainer.max_steps / 3600:.1f} h{memory}"
    )


def _step_seconds(module: Pretraining, batch: PairBatch, trainer: pl.Trainer, device: torch.device) -> list[float]:
    trial = copy.deepcopy(module).to(device)
    batch = batch._replace(patches_hu=batch.patches_hu.to(device), voxels=[v.to(device) for v in batch.voxels])
    seconds = []
    for _ in range(_MEASURED_STEPS):
        start = time.perf_counter()
        with trainer.precision_plugin.forward_context():
            _, embeddings = trial.embedded(batch)
            loss = trial.loss_of(embeddings)
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return seconds


def _peak_bytes(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_bytes()
