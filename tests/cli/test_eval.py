"""`eval.py`: the published commands on a BTCV tree, its results, what it refuses, and going on after a kill."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from vox2vec import Volume, load_backbone, load_volume, save_backbone
from vox2vec.cli.main import main
from vox2vec.data.phantom import phantom
from vox2vec.data.sources.structures import BTCV_ORGANS
from vox2vec.evaluation.results import Results
from vox2vec.nn.fingerprint import fingerprint
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.head_file import load_head
from vox2vec.recipe import Recipe

ROOT = Path(__file__).parents[2]
RECIPE = Recipe(spacing_mm=(14, 14, 14), patch_size=(16, 16, 16))
FEW = "--epochs 1 --num_batches_per_epoch 2 --batch_size 2 --num_workers 0 --accelerator cpu --lr 0.01"
FRESH = "--base_channels 2 --num_scales 2 --spacing 14 14 14 --patch_size 16 16 16"


@pytest.fixture(scope="module")
def btcv(tmp_path_factory):
    """30 small labelled scans with negative diagonals, named as the real ones."""
    root = tmp_path_factory.mktemp("btcv")
    splits = [*range(1, 11), *range(21, 41)]
    for number in splits:
        patient = phantom(number, spacing_mm=(14, 14, 14), axis_codes="LPS")
        assert patient.volume.affine[0, 0] < 0 > patient.volume.affine[1, 1]
        for kind, volume in (("img", patient.volume), ("label", patient.labels)):
            folder = root / "RawData" / "Training" / kind
            folder.mkdir(parents=True, exist_ok=True)
            volume.save(folder / f"{kind}{number:04d}.nii.gz")
    return root


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval")
    torch.manual_seed(0)
    backbone = FPN3d(base_channels=2, num_scales=2)
    backbone.recipe = RECIPE
    save_backbone(backbone, folder / "backbone.safetensors")
    return folder


def _words(btcv, places, setup, log_dir):
    """As published."""
    words = ["--btcv_dir", btcv, "--cache_dir", places / "cache", "--setup", setup, "--log_dir", log_dir]
    words += [] if setup == "from_scratch" else ["--ckpt", places / "backbone.safetensors"]
    return [*map(str, words), *FEW.split(), *(FRESH.split() if setup == "from_scratch" else [])]


@pytest.fixture(scope="module")
def probed(btcv, places):
    """All five folds of a probing."""
    assert main(["eval", *_words(btcv, places, "probing", places / "probing"), "--split", "all"]) == 0
    return places / "probing"


def test_the_script_is_the_command(btcv, places, tmp_path):
    words = _words(btcv, places, "probing", tmp_path)
    done = subprocess.run([sys.executable, ROOT / "eval.py", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "BTCV, fold 0: 23 CTs to learn from, 1 to choose by, 6 to test on" in done.stdout
    assert set(json.loads((tmp_path / "results.json").read_text())["folds"]) == {"0"}


def test_the_five_folds_are_the_published_ones_and_hold_every_organ(probed, original):
    wanted = json.loads((original / "btcv_splits.json").read_text())
    results = Results.read(probed)
    assert sorted(results.folds) == ["0", "1", "2", "3", "4"]
    for fold, result in results.folds.items():
        for part in ("train", "val", "test"):
            assert sorted(result["split"][part]) == sorted(wanted[fold][part])
        for head in ("linear", "nonlinear"):
            assert sorted(result["scores"][head]) == sorted(wanted[fold]["test"])
            for scores in result["scores"][head].values():
                assert list(scores) == list(BTCV_ORGANS.values())
    assert results.settings["fingerprint"] == fingerprint(load_backbone(probed.parent / "backbone.safetensors"))
    assert results.settings["recipe"]["spacing_mm"] == [14, 14, 14]  # the weights', not the flags' defaults


def test_a_run_leaves_what_a_person_can_use(probed):
    with (probed / "summary.csv").open(newline="") as file:
        rows = {(row["head"], row["structure"], row["metric"]): row for row in csv.DictReader(file)}
    liver = rows["linear", "liver", "dice"]
    assert liver["patients"] == "30"
    assert float(liver["low"]) <= float(liver["high"])
    overlays = {f"{head}_{rank}.png" for head in ("linear", "nonlinear") for rank in ("best", "median", "worst")}
    assert overlays == {path.name for path in (probed / "overlays").iterdir()}
    for path in (probed / "dice.png", probed / "overlays" / "linear_best.png"):
        assert np.asarray(Image.open(path).convert("RGB")).std() > 10
    assert not list(probed.glob("fold_*/last.ckpt"))


def test_its_head_segments_a_scan_as_the_evaluation_did(probed, btcv, tmp_path, capsys):
    """On the scan's own grid, through `vox2vec segment`."""
    id = next(iter(Results.read(probed).folds["0"]["scores"]["nonlinear"]))
    scan = btcv / "RawData" / "Training" / "img" / f"img{id}.nii.gz"
    out = tmp_path / "labels.nii.gz"
    head = probed / "fold_0" / "nonlinear.safetensors"
    words = ["segment", str(scan), "--head", str(head), "-o", str(out), "--weights"]
    assert main([*words, str(probed.parent / "backbone.safetensors"), "--precision", "32"]) == 0
    assert "6 liver: " in capsys.readouterr().out
    found, kept = nibabel.load(out), nibabel.load(probed / "fold_0" / "labels" / "nonlinear" / f"{id}.nii.gz")
    np.testing.assert_array_equal(found.affine, nibabel.load(scan).affine)
    np.testing.assert_array_equal(np.asanyarray(found.dataobj), np.asanyarray(kept.dataobj))
    assert main([*words, str(probed.parent / "backbone.safetensors"), "--names", "names.json"]) == 2
    assert "--names goes with --examples" in capsys.readouterr().err
    torch.manual_seed(9)
    other = FPN3d(base_channels=2, num_scales=2)
    save_backbone(other, tmp_path / "other.safetensors")
    assert main([*words, str(tmp_path / "other.safetensors")]) == 2
    assert "must be used with the backbone it was trained on" in capsys.readouterr().err


@pytest.mark.parametrize("setup", ["fine-tuning", "from_scratch"])
def test_a_setup_that_trains_the_backbone_keeps_it_beside_its_head(setup, btcv, places, tmp_path):
    words = _words(btcv, places, setup, tmp_path)
    assert main(["eval", *words, "--split", "2", "--freeze_epochs", "0", "--train_size", "4"]) == 0
    results = Results.read(tmp_path)
    assert results.heads == ["linear"]
    assert len(results.folds["2"]["split"]["train"]) == 4
    backbone = load_backbone(tmp_path / "fold_2" / "backbone.safetensors")
    assert load_head(tmp_path / "fold_2" / "linear.safetensors").fingerprint == fingerprint(backbone)
    assert fingerprint(backbone) != results.settings["fingerprint"]  # it learned


def test_finished_folds_are_not_repeated_and_other_settings_are_refused(btcv, places, tmp_path, capsys):
    words = ["eval", *_words(btcv, places, "probing", tmp_path), "--train_size", "3", "--heads", "linear"]
    assert main(words) == 0
    before = (tmp_path / "fold_0" / "fold.json").stat().st_mtime_ns
    assert main([*words, "--split", "1"]) == 0
    assert (tmp_path / "fold_0" / "fold.json").stat().st_mtime_ns == before
    assert sorted(Results.read(tmp_path).folds) == ["0", "1"]
    capsys.readouterr()
    assert main([*words, "--seed", "4"]) == 2
    assert "holds a run with other settings (protocol)" in capsys.readouterr().err


def test_killed_in_fold_3_it_goes_on_in_fold_3(btcv, places, tmp_path):
    words = [*_words(btcv, places, "probing", tmp_path), "--split", "all", "--heads", "linear", "--train_size", "3"]
    few = "--schedule cosine --epochs 1 --num_batches_per_epoch 40 --save_every 5 --num_val_scans 0"
    long = [*words, *few.split()]
    process = subprocess.Popen([sys.executable, ROOT / "eval.py", *long], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not (tmp_path / "fold_3" / "last.ckpt").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {fold: (tmp_path / f"fold_{fold}" / "fold.json").stat().st_mtime_ns for fold in range(3)}
    assert not (tmp_path / "fold_3" / "fold.json").exists()
    assert torch.load(tmp_path / "fold_3" / "last.ckpt", weights_only=True)["global_step"] >= 5
    assert main(["eval", *long]) == 0
    assert {fold: (tmp_path / f"fold_{fold}" / "fold.json").stat().st_mtime_ns for fold in range(3)} == finished
    whole = tmp_path.with_name("whole")
    undisturbed = [str(whole) if word == str(tmp_path) else word for word in long]
    assert main(["eval", *undisturbed, "--split", "3"]) == 0
    one, other = (load_head(folder / "fold_3" / "linear.safetensors").network for folder in (tmp_path, whole))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_a_broken_scan_is_said_and_skipped_and_no_fold_shifts(btcv, places, tmp_path, capsys):
    root = tmp_path / "btcv"
    for path in sorted(btcv.rglob("*.nii.gz")):
        link = root / path.relative_to(btcv)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    id = Results.read(places / "probing").folds["0"]["split"]["test"][0]
    broken = root / "RawData" / "Training" / "img" / f"img{id}.nii.gz"
    broken.unlink()
    broken.write_bytes(b"no image")
    assert main(["eval", *_words(root, places, "probing", tmp_path / "log"), "--heads", "linear"]) == 0
    assert f"left out: {broken}" in capsys.readouterr().err
    fold = Results.read(tmp_path / "log").folds["0"]
    assert id in fold["split"]["test"]
    assert fold["skipped"] == {id: "not in the cache"}
    assert len(fold["scores"]["linear"]) == 5


def test_runs_are_compared_with_each_other_and_with_what_was_published(probed, btcv, places, tmp_path, capsys):
    other = places / "random"
    words = _words(btcv, places, "probing", other)
    words = ["random" if word == str(places / "backbone.safetensors") else word for word in words]
    assert main(["eval", *words, *FRESH.split(), "--seed", "3"]) == 0
    capsys.readouterr()
    assert main(["compare", str(probed), str(other), "-o", str(tmp_path / "dice.png")]) == 0
    told = capsys.readouterr().out
    assert "| published (BTCV), probing, nonlinear | 5 |" in told
    assert "0.73 ± 0.01" in told
    assert "| random - probing, linear |" in told
    assert "| probing, linear | 5 |" in told
    assert np.asarray(Image.open(tmp_path / "dice.png").convert("RGB")).std() > 10


def test_a_folder_with_names_is_evaluated(places, tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    for folder in (images, labels):
        folder.mkdir()
    for seed in range(6):
        patient = phantom(seed, spacing_mm=(14, 14, 14))
        patient.volume.save(images / f"p{seed}.nii.gz")
        Volume(np.where(patient.labels.image == 6, 2, 0).astype(np.uint8), patient.labels.affine).save(
            labels / f"p{seed}.nii.gz"
        )
    (tmp_path / "names.json").write_text('{"Leber": 2}')
    words = ["--dataset", "folder", "--images_dir", images, "--labels_dir", labels, "--names", tmp_path / "names.json"]
    words += ["--cache_dir", tmp_path / "cache", "--log_dir", tmp_path / "log", "--setup", "from_scratch"]
    assert main(["eval", *map(str, words), *FEW.split(), *FRESH.split()]) == 0
    assert Results.read(tmp_path / "log").structures == {"2": "Leber"}
    (tmp_path / "splits.json").write_text(
        '{"one": {"train": ["p0"], "val": [], "test": ["p1"]}, "other": {"train": ["p1"], "val": [], "test": ["p0"]}}'
    )
    words[words.index("--log_dir") + 1] = tmp_path / "both"
    words += ["--splits_file", tmp_path / "splits.json", "--split", "all"]
    assert main(["eval", *map(str, words), *FEW.split(), *FRESH.split()]) == 0
    assert Results.read(tmp_path / "both").scans("linear") == [("one", "p1", "p1"), ("other", "p0", "p0")]


def test_nearest_labelled_voxels_need_no_training(btcv, places, tmp_path, capsys):
    """`--setup knn` in folds; `--setup atlas`, and the same on one scan by `vox2vec segment --examples`."""
    words = ["eval", *_words(btcv, places, "knn", tmp_path / "log"), "--train_size", "2", "--precision", "32"]
    assert main([*words, "--split", "all"]) == 0
    results = Results.read(tmp_path / "log")
    assert results.heads == ["nearest"]
    assert sorted(results.folds) == list("01234")
    assert results.name == "knn, 2 scans"
    assert results.settings["protocol"]["neighbours"] == 20
    table = results.table("nearest", "dice_original")
    assert table.shape == (30, 13)
    assert np.nanmean(table[:, list(results.structures.values()).index("liver")]) > 0.3
    before = (tmp_path / "log" / "fold_3" / "fold.json").stat().st_mtime_ns
    assert main([*words, "--split", "3"]) == 0
    assert (tmp_path / "log" / "fold_3" / "fold.json").stat().st_mtime_ns == before

    words = ["eval", *_words(btcv, places, "atlas", tmp_path / "atlas"), "--train_size", "2", "--precision", "32"]
    assert main([*words, "--split", "0"]) == 0
    carried = Results.read(tmp_path / "atlas")
    told = carried.settings["protocol"]
    assert (told["near_mm"], told["smoothing_mm"], told["temperature"]) == (4, 0, 0.05)
    assert carried.heads == ["atlas"]

    (tmp_path / "examples").mkdir()
    folder = btcv / "RawData" / "Training"
    for id in results.folds["0"]["split"]["train"]:
        shutil.copy(folder / "img" / f"img{id}.nii.gz", tmp_path / "examples" / f"img{id}.nii.gz")
        shutil.copy(folder / "label" / f"label{id}.nii.gz", tmp_path / "examples" / f"img{id}_labels.nii.gz")
    id = next(iter(results.folds["0"]["scores"]["nearest"]))
    scan, out = folder / "img" / f"img{id}.nii.gz", tmp_path / "labels.nii.gz"
    (tmp_path / "names.json").write_text(json.dumps({str(n): name for n, name in BTCV_ORGANS.items()}))
    words = ["segment", scan, "--examples", tmp_path / "examples", "--names", tmp_path / "names.json", "-o", out]
    assert main([*map(str, words), "--weights", str(places / "backbone.safetensors"), "--precision", "32"]) == 0
    told = capsys.readouterr().out
    assert "2 labelled scans: " in told
    assert "6 liver: " in told
    kept = nibabel.load(tmp_path / "atlas" / "fold_0" / "labels" / "atlas" / f"{id}.nii.gz")
    np.testing.assert_array_equal(nibabel.load(out).affine, nibabel.load(scan).affine)
    found, before = (np.asanyarray(image.dataobj) for image in (nibabel.load(out), kept))
    assert (found == before).mean() > 0.97  # cached scans are whole HU
    (tmp_path / "empty").mkdir()
    words[3] = tmp_path / "empty"
    assert main([*map(str, words), "--weights", str(places / "backbone.safetensors")]) == 2


def test_the_papers_tasks_are_one_table_with_the_rest_missing(btcv, places, tmp_path, capsys):
    spleen = tmp_path / "msd" / "Task09_Spleen"
    for folder in ("imagesTr", "labelsTr"):
        (spleen / folder).mkdir(parents=True)
    cases = []
    for seed in range(6):
        patient = phantom(seed, spacing_mm=(14, 14, 14))
        patient.volume.save(spleen / "imagesTr" / f"spleen_{seed}.nii.gz")
        mask = Volume((patient.labels.image == 1).astype(np.uint8), patient.labels.affine)
        mask.save(spleen / "labelsTr" / f"spleen_{seed}.nii.gz")
        cases.append({"image": f"./imagesTr/spleen_{seed}.nii.gz", "label": f"./labelsTr/spleen_{seed}.nii.gz"})
    described = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}, "training": cases}
    (spleen / "dataset.json").write_text(json.dumps(described))
    colon = tmp_path / "msd" / "Task10_Colon"  # a data set that cannot be evaluated is said, and the others are
    for folder in ("imagesTr", "labelsTr"):
        (colon / folder).mkdir(parents=True)
        shutil.copy(spleen / folder / "spleen_0.nii.gz", colon / folder / "colon_0.nii.gz")
    case = {"image": "./imagesTr/colon_0.nii.gz", "label": "./labelsTr/colon_0.nii.gz"}
    described = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "cancer"}, "training": [case]}
    (colon / "dataset.json").write_text(json.dumps(described))
    words = _words(btcv, places, "probing", tmp_path / "log")
    assert main(["eval", *words, "--dataset", "paper", "--msd_dir", str(tmp_path / "msd"), "--train_size", "2"]) == 1
    told = capsys.readouterr()
    assert "left out: MSD Task10_Colon: 5 folds and 1 to choose by need more patients, got 1" in told.err
    rows = [line for line in told.out.splitlines() if line.startswith(("| BTCV", "| MSD"))]
    assert len(rows) == 22
    missing = [row for row in rows if "| missing | missing |" in row]
    assert len(missing) == 8
    assert not any("Task09_Spleen" in row or "BTCV" in row for row in missing)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--setup probing", "--setup probing needs --weights"),
        ("--setup fine-tuning", "--setup fine-tuning needs --weights"),
        ("--setup from_scratch --ckpt random", "starts from fresh weights"),
        ("--setup probing --ckpt random --split 5", "--split must be 0 to 4, or all; got '5'"),
        ("--setup probing --ckpt random --epochs 0", "--epochs must be at least 1, got 0"),
        ("--setup knn --ckpt random --neighbours 0", "--neighbours must be at least 1, got 0"),
        ("--setup knn --ckpt random --temperature 0", "--temperature must be above 0, got 0"),
        ("--setup knn --ckpt random --smoothing -1", "--smoothing must be at least 0, got -1"),
        ("--setup atlas --ckpt random --near 0", "--near must be above 0, got 0"),
        ("--setup probing --ckpt random", "--dataset btcv needs --btcv_dir"),
        ("--setup probing --ckpt random --dataset msd --msd_dir .", "needs --task"),
        ("--setup probing --ckpt random --dataset folder", "--dataset folder needs --images_dir"),
        ("--setup probing --ckpt random --dataset amid", "needs --amid NAME=DIR"),
        ("--setup probing --ckpt random --dataset paper", "needs --btcv_dir or --msd_dir"),
        ("--setup probing --ckpt nowhere.pt", "there are no weights at nowhere.pt"),
    ],
)
def test_bad_words_are_refused(words, message, tmp_path, capsys):
    assert main(["eval", "--cache_dir", str(tmp_path), "--log_dir", str(tmp_path / "log"), *words.split()]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "log").exists()


def test_another_spacing_than_the_weights_is_refused(btcv, places, tmp_path, capsys):
    assert main(["eval", *_words(btcv, places, "probing", tmp_path / "log"), "--spacing", "1", "1", "2"]) == 2
    assert "spacing_mm (14.0, 14.0, 14.0); got (1.0, 1.0, 2.0)" in capsys.readouterr().err


def test_real_labelled_cts_are_probed(shared, tmp_path):
    """OpenKBP's axes are not canonical."""
    source = shared / "data" / "openkbp"
    images = tmp_path / "images"
    images.mkdir()
    for path in sorted((source / "labelled").glob("*.nii.gz"))[:12]:
        (images / path.name).symlink_to(path)
    words = ["--dataset", "folder", "--images_dir", images, "--names", source / "names.json", "--ckpt", "random"]
    words += ["--cache_dir", tmp_path / "cache", "--log_dir", tmp_path / "log", "--setup", "probing"]
    small = "--base_channels 2 --num_scales 2 --spacing 12 12 12 --patch_size 16 16 8"
    assert main(["eval", *map(str, words), *FEW.split(), *small.split()]) == 0
    results = Results.read(tmp_path / "log")
    (id, *_) = results.folds["0"]["scores"]["linear"]
    truth = load_volume(images / f"{id}.nii.gz")
    labels = nibabel.load(tmp_path / "log" / "fold_0" / "labels" / "linear" / f"{id}.nii.gz")
    assert labels.shape == truth.shape
    np.testing.assert_allclose(labels.affine, truth.affine)
