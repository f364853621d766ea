"""The label-free monitor: it logs and draws, and leaves no trace in the training."""

import csv
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from tests.data.scans import RECIPE, body, stored
from vox2vec.data.datasets import PairBatches
from vox2vec.nn.fpn import FPN3d
from vox2vec.training.datamodule import CountBatches, EndlessData
from vox2vec.training.matching_monitor import MatchingMonitor
from vox2vec.training.pretraining import Pretraining


def _backbone():
    torch.manual_seed(0)
    backbone = FPN3d(base_channels=4, num_scales=2)
    backbone.recipe = RECIPE
    return backbone


@pytest.mark.filterwarnings("ignore:.*LeafSpec")
def test_it_logs_draws_and_changes_nothing(tmp_path):
    cache = stored(tmp_path, *(body(seed) for seed in range(2)))

    def trained(callbacks):
        torch.manual_seed(0)
        model = Pretraining(_backbone())
        data = EndlessData(
            PairBatches(cache, cache.entries(), seed=0, batch_size=2, patches_per_volume=1, max_pairs=30)
        )
        logger = pl.loggers.CSVLogger(tmp_path / str(len(callbacks)))
        pl.Trainer(
            max_steps=4, limit_train_batches=2, accelerator="cpu", logger=logger, enable_checkpointing=False,
            callbacks=[CountBatches(), *callbacks], enable_progress_bar=False, enable_model_summary=False,
            log_every_n_steps=1,
        ).fit(model, datamodule=data)  # fmt: skip
        return model, logger

    drawn = []
    monitor = MatchingMonitor(
        body(0), RECIPE.patch_size, every_epochs=1, draw=lambda volume, embedding, step: drawn.append(step)
    )
    watched, logger = trained([monitor])
    alone, _ = trained([])
    assert drawn == [0, 2, 4]
    with Path(logger.log_dir, "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["matching/median_mm"]]
    assert [row["step"] for row in rows] == ["0", "2", "4"]
    assert all(0 <= float(row["matching/recall_5mm"]) <= 1 for row in rows)
    for one, other in zip(watched.state_dict().values(), alone.state_dict().values(), strict=True):
        assert torch.equal(one, other)
