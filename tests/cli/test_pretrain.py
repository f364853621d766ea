"""`pretrain.py`: runs, exports, refuses, resumes after SIGKILL to the same weights, and trains on two ranks."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vox2vec import load_backbone
from vox2vec.cli.main import main
from vox2vec.data.phantom import phantom

ROOT = Path(__file__).parents[2]
TINY = "--spacing 12 12 12 --patch_size 8 8 8 --base_channels 2 --num_scales 2 --batch_size 2 --max_num_voxels 30"
TINY += " --num_batches_per_epoch 3 --num_workers 0 --accelerator cpu --lr 0.01 --precision 32"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for seed in range(3):
        phantom(seed, spacing_mm=(12, 12, 12)).volume.save(folder / f"p{seed}.nii.gz")
    words = ["--cache_dir", str(folder / "cache"), "--data_dir", str(folder), "--num_workers", "0"]
    assert main(["warmup-cache", *words, *TINY.split()[:8]]) == 0
    return folder / "cache"


def _command(cache, log_dir, *words):
    script = [sys.executable, str(ROOT / "pretrain.py")]
    return [*script, "--cache_dir", str(cache), "--log_dir", str(log_dir), *TINY.split(), *map(str, words)]


def _run(*words):
    return subprocess.run(_command(*words), capture_output=True, text=True, cwd=ROOT)


def _weights(log_dir):
    return load_file(log_dir / "backbone.safetensors")


@pytest.fixture(scope="module")
def undisturbed(cache, tmp_path_factory):
    log_dir = tmp_path_factory.mktemp("runs") / "whole"
    done = _run(cache, log_dir, "--max_steps", 10, "--save_every", 2)
    assert done.returncode == 0, done.stderr
    return log_dir, done


def test_a_run_says_what_it_will_do_and_leaves_a_backbone_that_loads(undisturbed):
    log_dir, done = undisturbed
    assert "3 CTs of 1 data sets; 10 steps of 2 pairs of 8x8x8 patches" in done.stdout
    assert "a step takes" in done.stdout
    backbone = load_backbone(log_dir / "backbone.safetensors")
    assert (backbone.base_channels, backbone.num_scales) == (2, 2)
    assert backbone.recipe.spacing_mm == (12, 12, 12)
    again = load_backbone(log_dir / "last.ckpt")
    for one, other in zip(backbone.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    with (log_dir / "csv" / "version_0" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    logged = {name for row in rows for name, value in row.items() if value}
    assert {
        "train/loss",
        "lr-Adam",
        "spread/positive_similarity",
        "spread/effective_rank_1",
        "speed/loader_wait_percent",
        "speed/voxels_per_s",
        "matching/median_mm",
        "matching/recall_5mm",
    } <= logged
    assert list(log_dir.glob("events.out.tfevents.*"))
    pictures = {path.name for path in (log_dir / "pictures").iterdir()}
    assert pictures == {f"{name}_000000.png" for name in ("slices", "pca", "similarity")}


def test_vicreg_trains_with_the_expander_that_was_asked_for(cache, tmp_path):
    words = ("--objective", "vicreg", "--expander_width", 24, "--max_steps", 2, "--monitor_every", 0)
    done = _run(cache, tmp_path / "run", *words)
    assert done.returncode == 0, done.stderr
    weights = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["state_dict"]
    assert weights["proj_head.6.weight"].shape == (24, 24)


def test_killed_and_resumed_a_run_ends_with_the_same_weights(cache, undisturbed, tmp_path):
    """Killed in the middle of an epoch, some steps after the last checkpoint."""
    log_dir = tmp_path / "killed"
    process = subprocess.Popen(
        _command(cache, log_dir, "--max_steps", 10_000, "--save_every", 4), cwd=ROOT, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (log_dir / "last.ckpt").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    steps = torch.load(log_dir / "last.ckpt", weights_only=True)["global_step"]
    assert steps % 4 == 0
    last = max(10, steps + 3)
    resumed = _run(cache, log_dir, "--max_steps", last, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    whole, wanted = tmp_path / "whole", undisturbed[0]
    if last != 10:
        assert _run(cache, whole, "--max_steps", last).returncode == 0
        wanted = whole
    for name, value in _weights(wanted).items():
        torch.testing.assert_close(_weights(log_dir)[name], value, rtol=0, atol=1e-6)


def test_sigterm_saves_before_the_end(cache, tmp_path):
    log_dir = tmp_path / "stopped"
    words = ("--max_steps", 10_000, "--save_every", 10_000)
    process = subprocess.Popen(_command(cache, log_dir, *words), cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (log_dir / "csv" / "version_0" / "metrics.csv").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.wait()
    assert torch.load(log_dir / "last.ckpt", weights_only=True)["global_step"] > 0


def test_two_ranks_train_and_end_with_equal_weights(cache, tmp_path):
    """The command itself compares the ranks' weights, and fails where they differ; micro-batches go backward once."""
    done = _run(cache, tmp_path, "--max_steps", 4, "--devices", 2, "--micro_batch_size", 1, "--limit_scans", 2)
    assert done.returncode == 0, done.stderr
    assert "2 CTs of 1 data sets" in done.stdout
    assert load_backbone(tmp_path / "backbone.safetensors").num_scales == 2


def test_under_torchrun_the_cache_is_warmed_once_and_every_rank_learns_from_it(tmp_path):
    (tmp_path / "scans").mkdir()
    for seed in range(2):
        phantom(seed, spacing_mm=(12, 12, 12)).volume.save(tmp_path / "scans" / f"p{seed}.nii.gz")
    script = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = _command(tmp_path / "cache", tmp_path / "log", "--max_steps", 2, "--devices", 2, "--monitor_every", 0)
    done = subprocess.run(
        [*script, *words[1:], "--data_dir", str(tmp_path / "scans")], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("cache: ")] == [
        "cache: 2 CTs stored, 0 were there, 0 failed"
    ]
    assert load_backbone(tmp_path / "log" / "backbone.safetensors").num_scales == 2


def test_a_file_of_arguments_trains_as_they_would_and_stays_with_the_run(cache, undisturbed, tmp_path):
    names = dict(pair.split(maxsplit=1) for pair in f" {TINY} --max_steps 10 --save_every 2".split(" --")[1:])
    lists = {name: f"[{', '.join(value.split())}]" if " " in value else value for name, value in names.items()}
    text = "".join(f"{name}: {value}\n" for name, value in {**lists, "lr": "5.0"}.items())
    (tmp_path / "run.yaml").write_text(text)
    words = ["--cache_dir", cache, "--log_dir", tmp_path / "log", "--config", tmp_path / "run.yaml", "--lr", 0.01]
    assert main(["pretrain", *map(str, words)]) == 0
    for name, value in _weights(undisturbed[0]).items():
        assert torch.equal(_weights(tmp_path / "log")[name], value)
    assert (tmp_path / "log" / "config.yaml").read_text() == text


def test_an_earlier_run_is_neither_overwritten_nor_missed(cache, undisturbed, tmp_path, capsys):
    log_dir, _ = undisturbed
    words = ["pretrain", "--cache_dir", str(cache), *TINY.split()]
    assert main([*words, "--log_dir", str(log_dir)]) == 2
    assert "holds an earlier run: go on with --resume" in capsys.readouterr().err
    assert main([*words, "--log_dir", str(tmp_path), "--resume"]) == 2
    assert "which is not there" in capsys.readouterr().err
    assert main([*words, "--log_dir", str(tmp_path), "--limit_scans", "0"]) == 2
    assert "--limit_scans must be at least 1, got 0" in capsys.readouterr().err


class _Code:
    """Unpickled, it leaves a file."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return os.mkdir, (str(self._path),)


def test_a_checkpoint_with_code_is_refused_and_not_run(cache, tmp_path, capsys):
    torch.save({"state_dict": _Code(tmp_path / "ran")}, tmp_path / "last.ckpt")
    words = ["pretrain", "--cache_dir", str(cache), *TINY.split(), "--log_dir", str(tmp_path), "--resume"]
    assert main(words) == 2
    assert "must hold a training's state and no code" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_a_cache_without_cts_of_the_recipe_is_refused(cache, tmp_path, capsys):
    words = ["--cache_dir", str(cache), "--log_dir", str(tmp_path / "log")]
    assert main(["pretrain", *words, "--spacing", "3", "3", "3"]) == 2
    assert "warm it first" in capsys.readouterr().err
    assert not os.path.exists(tmp_path / "log")


def test_the_published_commands_work_word_for_word_on_a_btcv_tree(cache, tmp_path):
    """`pretrain.py --btcv_dir B --cache_dir C --log_dir L`, with a small network and few steps."""
    for number in range(1, 7):
        patient = phantom(number, spacing_mm=(12, 12, 12), axis_codes="LPS")
        for kind, volume in (("img", patient.volume), ("label", patient.labels)):
            folder = tmp_path / "RawData" / "Training" / kind
            folder.mkdir(parents=True, exist_ok=True)
            volume.save(folder / f"{kind}{number:04d}.nii.gz")
    leaked = ["warmup-cache", "--cache_dir", cache, "--data_dir", tmp_path / "RawData" / "Training" / "img"]
    assert main([*map(str, leaked), "--num_workers", "0", *TINY.split()[:8]]) == 0
    words = ["--max_steps", 3, "--btcv_dir", tmp_path, "--probe_every", 1]
    done = _run(cache, tmp_path / "log", *words)
    assert done.returncode == 0, done.stderr
    assert "3 CTs of 1 data sets, without 6 that are the probe's" in done.stdout  # though cached as any others
    with (tmp_path / "log" / "csv" / "version_0" / "metrics.csv").open(newline="") as file:
        logged = {name for row in csv.DictReader(file) for name, value in row.items() if value}
    assert {"probe_linear/dice", "probe_linear/liver", "probe_nonlinear/dice", "probe_nonlinear/loss"} <= logged
