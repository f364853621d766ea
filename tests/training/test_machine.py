"""What a training runs on: bfloat16 where it is computed in, and one rank that works while the others wait."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vox2vec.training import machine
from vox2vec.training.machine import accelerator_of, precision_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("computed_in", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_gpu_that_emulates_bfloat16_trains_in_float32(computed_in, precision, monkeypatch):
    """As torch answers of a V100, where it is supported by emulation."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: computed_in or including_emulation
    )
    assert precision_of(None, "auto") == precision
    assert precision_of("bf16", "auto") == "bf16-mixed"
    assert precision_of(None, "cpu") == "32-true"


def test_auto_is_what_embedding_takes_and_a_named_one_stays(monkeypatch):
    monkeypatch.setattr(machine, "pick_device", lambda device: torch.device("cpu"))
    assert accelerator_of("auto") == "cpu"
    assert accelerator_of("mps") == "mps"


_WORK = """
import sys
from pathlib import Path
import pytorch_lightning as pl
from vox2vec.training.machine import by_first_rank

folder = Path(sys.argv[1])
trainer = pl.Trainer(accelerator="cpu", devices=2, logger=False, enable_checkpointing=False)

def work():
    while not (folder / "came").exists():  # so that the other rank has the chance not to wait
        pass
    (folder / "done").mkdir()  # fails where it is done twice

if trainer.global_rank == 1:
    (folder / "came").touch()
by_first_rank(trainer, work)
assert (folder / "done").is_dir()
(folder / str(trainer.global_rank)).touch()
"""


def test_under_torchrun_one_rank_does_the_work_and_the_others_find_it_done(tmp_path):
    (tmp_path / "work.py").write_text(_WORK)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(tmp_path / "work.py"), str(tmp_path)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert {"done", "0", "1"} <= {path.name for path in tmp_path.iterdir()}
