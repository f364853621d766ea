"""The command line as a person meets it."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tests.inference.scans import blob
from vox2vec import Embedding, FPN3d, Volume, __version__, load_backbone, save_backbone
from vox2vec.cli.main import COMMANDS, main
from vox2vec.data.sources.phantoms import Phantoms
from vox2vec.evaluation import demo
from vox2vec.training.settings import Network


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_backbone(FPN3d(base_channels=2, num_scales=4), path)
    return str(path)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "scan.nii.gz"
    blob((40, 36, 20), 0).save(path)
    return str(path)


def test_embed_writes_the_file_and_the_figures(scan, weights, tmp_path, capsys):
    out = tmp_path / "out.safetensors"
    figures = tmp_path / "new" / "figures"
    assert main(["embed", scan, "-o", str(out), "--weights", weights, "--figure", str(figures)]) == 0
    assert Embedding.load(out).num_channels == 30
    assert sorted(p.name for p in figures.iterdir()) == ["pca.png", "similarity.png", "slices.png"]
    for path in figures.iterdir():
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert pixels.std() > 10  # not a blank page
    assert "out.safetensors: 30 channels on 40x36x20 voxels of 1x1x2 mm" in capsys.readouterr().out


def test_the_list_of_commands_is_there_before_any_of_them_is_loaded():
    code = """
import sys
from vox2vec.cli.main import COMMANDS, main
try:
    main(["--help"])
except SystemExit:
    heavy = {"torch", "numpy", "nibabel", "vox2vec.cli.arguments"} & set(sys.modules)
    print([*heavy, *(name for name in COMMANDS if "vox2vec.cli." + name.replace("-", "_") in sys.modules)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *told, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    text = " ".join(" ".join(told).split())
    assert all(f" {name} {line}" in text for name, line in COMMANDS.items())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_described_by_its_own_file(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    told = capsys.readouterr().out
    assert told.startswith(f"usage: vox2vec {command} ")
    assert "--debug" in told


@pytest.mark.parametrize("words", [[], ["radiate"], ["radiate", "embed"], ["--debug", "embed"], ["--"]])
def test_words_that_are_no_command_are_refused(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "vox2vec: error: " in capsys.readouterr().err


@pytest.mark.parametrize("command", ["cache", "warmup-cache"])
def test_a_command_loads_only_what_it_needs(command):
    code = f"""
import sys
from vox2vec.cli.main import COMMANDS, main
try:
    main([{command!r}, "--help"])
except SystemExit:
    print([name for name in ("pytorch_lightning", "matplotlib", "monai", "amid") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed", "nowhere.nii.gz", "-o", "x.safetensors", "--weights", "W"], "nowhere.nii.gz"),
        (["embed", "SCAN", "-o", "x.safetensors", "--weights", "nowhere.pt"], "nowhere.pt"),
        (["embed", "SCAN", "-o", "no/such/folder/x.safetensors", "--weights", "W"], "folder of the output must exist"),
        (["embed", "SCAN", "-o", "x.safetensors", "--weights", "W", "--batch_size", "0"], "batch_size must be"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, scan, weights, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"SCAN": scan, "W": weights}
    assert main([names.get(word, word) for word in arguments]) == 2
    error = capsys.readouterr().err
    told = [line for line in error.splitlines() if line.startswith("vox2vec: error:")]
    assert len(told) == 1
    assert message in told[0]
    assert "Traceback" not in error


def test_debug_shows_where_an_error_came_from(weights, capsys, tmp_path):
    assert main(["embed", "nowhere.nii.gz", "-o", str(tmp_path / "x"), "--weights", weights, "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_scan_without_body_is_bad_input(weights, tmp_path, capsys):
    path = tmp_path / "air.nii.gz"
    Volume(np.full((9, 9, 9), -1000, np.int16), np.eye(4)).save(path)
    assert main(["embed", str(path), "-o", str(tmp_path / "x.safetensors"), "--weights", weights]) == 2
    assert "must hold a body" in capsys.readouterr().err


def test_the_module_and_its_version_run_as_the_command_does():
    done = subprocess.run([sys.executable, "-m", "vox2vec", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"vox2vec {__version__}"


def test_the_demo_tells_the_whole_story_in_one_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "LEARNED_FROM", Phantoms(2, first=3, spacing_mm=demo.RECIPE.spacing_mm))
    monkeypatch.setattr(demo, "LABELLED", Phantoms(4, spacing_mm=demo.RECIPE.spacing_mm))
    monkeypatch.setattr(demo, "NUM_TRAIN", 2)
    monkeypatch.setattr(demo, "NETWORK", Network(base_channels=2, num_scales=3))
    words = ["demo", "-o", str(tmp_path / "demo"), "--max_steps", "2", "--probe_steps", "1"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    rows = re.findall(r"^\| (untrained|pre-trained) \| (.*) \|$", printed, flags=re.MULTILINE)
    assert [name for name, _ in rows] == ["untrained", "pre-trained"] * 2  # the heads, and the landmarks
    rows += re.findall(r"^\| (correlation, radius \d+ mm) \| (.*) \|$", printed, flags=re.MULTILINE)
    assert len(rows) == 7
    text = (tmp_path / "demo" / "report.html").read_text()
    assert text.count('<img src="data:image/png;base64,') == 8
    for _, cells in rows:
        assert all(f"<td>{cell}</td>" in text for cell in cells.split(" | "))
    assert "http" not in re.sub(r"base64,[^\"]*", "", text)  # all in one file
    with torch.no_grad():
        before, after = (
            load_backbone(tmp_path / "demo" / name) for name in ("untrained.safetensors", "run_seed0_steps2/last.ckpt")
        )
        assert not torch.equal(before.first_conv.weight, after.first_conv.weight)
