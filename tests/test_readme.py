"""The README's code blocks, run in order in one folder, with tiny weights and a phantom."""

import os
import re
import shutil
from pathlib import Path

import pytest
import torch

import vox2vec
from vox2vec.cli.main import main
from vox2vec.data.phantom import phantom
from vox2vec.geometry import Box
from vox2vec.nn.fpn import FPN3d
from vox2vec.recipe import Recipe

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README.read_text(), flags=re.MULTILINE | re.DOTALL)
POINT = "[12.0, -40.5, 310.0]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader has a scan, and the weights are at hand."""
    folder = tmp_path_factory.mktemp("reader")
    patient = phantom(0, spacing_mm=(4, 4, 5))
    _, _, z = patient.volume.to_voxels(patient.landmarks["liver"]).round().astype(int).tolist()
    x, y, _ = patient.volume.shape
    patient.volume.crop(Box((0, 0, z - 6), (x, y, z + 6))).save(folder / "scan.nii.gz")
    patient.volume.crop(Box((0, 0, z - 5), (x, y, z + 7))).save(folder / "followup.nii.gz")
    (folder / "baseline.nii.gz").write_bytes((folder / "scan.nii.gz").read_bytes())
    (folder / "points.csv").write_text("name,x,y,z\nliver,{:.1f},{:.1f},{:.1f}\n".format(*patient.landmarks["liver"]))
    (folder / "scans").mkdir()
    patient.volume.save(folder / "scans" / "one.nii.gz")
    vox2vec.save_backbone(_tiny(), folder / "tiny.safetensors")
    return folder


def test_every_python_block_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for door in ("vox2vec_contrastive", "vox2vec_small"):
        monkeypatch.setattr(vox2vec, door, _tiny)
    inside = phantom(0).landmarks["liver"].round(1).tolist()
    blocks = [code for language, code in BLOCKS if language == "python"]
    assert len(blocks) >= 6
    vox2vec.embed("followup.nii.gz", _tiny(), progress=False).save("followup.safetensors")
    for code in blocks:
        exec(compile(code.replace(POINT, str(inside)), "README.md", "exec"), {})
    assert {"scan.safetensors", "similarity.nii.gz", "backbone.safetensors", "colours.png", "alike.png"} <= set(
        os.listdir()
    )


def test_every_vox2vec_command_runs(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    lines = [line for language, code in BLOCKS if language == "bash" for line in code.splitlines()]
    commands = [line.split("&&")[-1].split() for line in lines]
    commands = [words[1:] for words in commands if words[0] == "vox2vec"]
    assert ["demo"] in commands
    for words in commands:
        if words[0] == "warmup-cache":
            assert main([*words[:-1], "0"]) == 0
        if words[0] == "cache":
            assert main(words) == 0
            assert "scans,one," in capsys.readouterr().out
        if words[0] == "pretrain":
            small = "--patch_size 32 32 16 --base_channels 2 --num_scales 2 --batch_size 2 --num_workers 0"
            small += " --accelerator cpu"
            assert main([*words[:-1], "2", *small.split()]) == 0
            assert {"backbone.safetensors", "last.ckpt"} <= set(os.listdir("run"))
        if words[0] == "eval":
            _labelled(folder)
            small = "--epochs 1 --num_batches_per_epoch 2 --batch_size 2 --num_workers 0 --accelerator cpu --lr 0.01"
            coarse = [word.replace("run/backbone", "coarse").replace("scans", "patients") for word in words]
            assert main([*coarse, *small.split()]) == 0
        if words[0] == "compare":
            for setup in ("fine-tuning", "from_scratch"):
                shutil.copytree("probing", setup, dirs_exist_ok=True)
            assert main(words) == 0
            assert "| fine-tuning - probing, linear |" in capsys.readouterr().out
        if words[0] == "segment":
            (folder / "labelled").mkdir(exist_ok=True)
            shutil.copy("patients/p1.nii.gz", "labelled/p1.nii.gz")
            shutil.copy("labels/p1.nii.gz", "labelled/p1_labels.nii.gz")
            assert main([word.replace("run/backbone", "coarse") for word in words]) == 0
            assert ("6 label 6:" if "--examples" in words else "6 6:") in capsys.readouterr().out
        if words[0] == "search":
            _labelled(folder)
            recipe = ["--spacing", "14", "14", "14", "--patch_size", "16", "16", "16", "--num_workers", "0"]
            assert main(["warmup-cache", "--data_dir", "patients", "--cache_dir", "coarse_cache", *recipe]) == 0
            point = [f"{value:.1f}" for value in phantom(0).landmarks["liver"]]
            words = ["search", "patients/p0.nii.gz", "--point", *point, "--cache_dir", "coarse_cache", *words[8:]]
            assert main([*words, "--weights", "coarse.safetensors"]) == 0
            assert "places.csv: 10 places in " in capsys.readouterr().out
        if words[0] == "position":
            patients = ["patients/p0.nii.gz", "patients/p1.nii.gz"]
            assert main(["position", *patients, *words[3:], "--weights", "coarse.safetensors"]) == 0
            assert {"curve.csv", "curve.png"} <= set(os.listdir())
        if words[0] == "register":
            pair = [str(folder / "fixed.nii.gz"), str(folder / "moving.nii.gz")]
            for seed, path in enumerate(pair):
                phantom(seed, spacing_mm=(6, 6, 6)).volume.save(path)
            assert main([*words, "--weights", "small"]) == 0
            assert {"moved.nii.gz", "field.nii.gz"} <= set(os.listdir())
        if words[0] == "match":
            assert main([*words, "--weights", "tiny.safetensors"]) == 0
            assert "1 of 1 points matched" in capsys.readouterr().out
        if words[0] == "embed":
            assert main([*words, "--weights", "tiny.safetensors"]) == 0
            assert {"slices.png", "pca.png", "similarity.png"} <= set(os.listdir("figures"))


def _labelled(folder: Path) -> None:
    """Six patients with labels, and coarse weights."""
    for name in ("patients", "labels"):
        (folder / name).mkdir(exist_ok=True)
    for seed in range(6):
        patient = phantom(seed, spacing_mm=(14, 14, 14))
        patient.volume.save(folder / "patients" / f"p{seed}.nii.gz")
        patient.labels.save(folder / "labels" / f"p{seed}.nii.gz")
    backbone = _tiny()
    backbone.recipe = Recipe(spacing_mm=(14, 14, 14), patch_size=(16, 16, 16))
    vox2vec.save_backbone(backbone, folder / "coarse.safetensors")


def _tiny() -> FPN3d:
    torch.manual_seed(0)
    return FPN3d(base_channels=2, num_scales=4).eval()
