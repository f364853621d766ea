"""`evaluate` from Python: the published folds by default, and what it refuses."""

import subprocess
import sys

import pytest
import torch

import vox2vec
from tests.data.scans import RECIPE, Made, body, labels_for
from vox2vec.data.cache import Cache
from vox2vec.data.splits import Split
from vox2vec.evaluation.atlas_fold import Carrying
from vox2vec.evaluation.evaluate import evaluate_all
from vox2vec.evaluation.fold import Protocol
from vox2vec.evaluation.nearest_fold import Neighbours
from vox2vec.evaluation.results import Results
from vox2vec.nn.fresh import fresh_backbone
from vox2vec.recipe import PAPER

FEW = {"epochs": 1, "batches_per_epoch": 2, "batch_size": 2, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def source():
    """Three patients; the first has two scans."""
    volumes = {id: body(i) for i, id in enumerate(("p/before", "p/after", "q", "r"))}
    return Made(volumes, {id: labels_for(volume, 1, 2) for id, volume in volumes.items()})


@pytest.fixture(scope="module")
def backbone():
    return fresh_backbone(0, base_channels=2, num_scales=3, recipe=RECIPE)


def test_importing_vox2vec_does_not_load_what_evaluate_needs():
    code = """
import sys, vox2vec
print("pytorch_lightning" in sys.modules)
vox2vec.evaluate
print("pytorch_lightning" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="has no attribute 'evaluated'"):
        vox2vec.evaluated  # noqa: B018


def test_nearest_neighbours_in_two_splits_count_a_patients_scans_together(source, backbone, tmp_path):
    splits = {"one": Split(("q",), (), ("p/after", "p/before")), "other": Split(("r",), (), ("p/before", "q"))}
    said, before = [], torch.get_rng_state()
    config = tmp_path / "mine.yaml"
    config.write_text("first")
    results = vox2vec.evaluate(
        source,
        backbone,
        cache=tmp_path / "cache",
        log_dir=tmp_path / "log",
        setup="knn",
        protocol=Neighbours(device="cpu", precision="32"),
        splits=splits,
        config=config,
        say=said.append,
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert results.scans("nearest") == [
        ("one", "p", "p/after"),
        ("one", "p", "p/before"),
        ("other", "p", "p/before"),
        ("other", "q", "q"),
    ]
    assert Results.read(tmp_path / "log").folds == results.folds
    assert said[0] == "made, fold one: 1 CTs to learn from, 0 to choose by, 2 to test on"
    assert said[-1].endswith(", 2 patients")
    config.write_text("of a run that is refused")
    with pytest.raises(ValueError, match=r"holds a run with other settings \(splits\)"):
        vox2vec.evaluate(
            source,
            backbone,
            cache=tmp_path / "cache",
            log_dir=tmp_path / "log",
            setup="knn",
            protocol=Neighbours(device="cpu", precision="32"),
            splits={"one": splits["one"]},
            config=config,
        )
    assert (tmp_path / "log" / "config.yaml").read_text() == "first"


def test_a_scan_that_carries_its_structures_to_itself_finds_them(source, backbone, tmp_path):
    """Both scans of a patient are the same here, so that the field is the identity."""
    again = Made({"p": source.load("q"), "q": source.load("q")}, {id: source.labels("q") for id in "pq"})
    options = {"cache": tmp_path / "cache", "setup": "atlas", "splits": {"one": Split(("q",), (), ("p",))}}
    protocol = Carrying(device="cpu", precision="32", near_mm=1.0, temperature=0.001)
    results = vox2vec.evaluate(again, backbone, log_dir=tmp_path / "log", protocol=protocol, **options)
    assert results.heads == ["atlas"]
    assert results.settings["protocol"]["near_mm"] == 1.0
    assert (results.table("atlas", "dice") > 0.9).all()


@pytest.mark.filterwarnings("ignore:Found .* in eval mode", "ignore:.*LeafSpec", "ignore:.*does not have many workers")
def test_a_set_that_cannot_be_is_left_out_of_several_and_refused_alone(source, backbone, tmp_path):
    told, empty = [], Made({}, name="empty")
    splits = {"0": Split(("q",), ("r",), ("p/after",))}
    options = {"cache": tmp_path / "cache", "log_dir": tmp_path / "log", "splits": splits}
    options["protocol"] = Protocol.of("probing", heads=["linear"], **FEW)
    found = evaluate_all({"a": source, "b": empty}, backbone, warn=told.append, **options)
    assert list(found) == ["a"]
    assert (tmp_path / "log" / "a" / "fold_0" / "linear.safetensors").is_file()
    assert [line.startswith("left out: empty: split 0 must name scans that are there") for line in told] == [True]
    with pytest.raises(ValueError, match="split 0 must name scans that are there"):
        evaluate_all({"b": empty}, backbone, **options)


def test_a_setups_protocol_is_the_published_one():
    probing, tuned, scratch = (Protocol.of(setup) for setup in ("probing", "fine-tuning", "from_scratch"))
    assert probing == Protocol()
    assert (tuned.heads, tuned.frozen_epochs, tuned.backbone_learning_rate) == (("linear",), 50, pytest.approx(6e-5))
    assert (scratch.heads, scratch.frozen_epochs, scratch.backbone_learning_rate) == (("linear",), 0, None)


def test_what_cannot_be_is_refused(source, backbone, tmp_path):
    options = {"cache": tmp_path / "cache", "log_dir": tmp_path / "log"}
    with pytest.raises(ValueError, match="knn goes with Neighbours"):
        vox2vec.evaluate(source, backbone, setup="knn", protocol=Protocol(), **options)
    with pytest.raises(ValueError, match="got 'atlas' with Neighbours"):
        vox2vec.evaluate(source, backbone, setup="atlas", protocol=Neighbours(), **options)
    with pytest.raises(ValueError, match="temperature and near_mm must be above 0"):
        Carrying(near_mm=0)
    with pytest.raises(ValueError, match="the cache must be of the backbone's spacing"):
        vox2vec.evaluate(source, backbone, **{**options, "cache": Cache(tmp_path, PAPER)})
    with pytest.raises(ValueError, match="5 folds and 1 to choose by need more patients, got 3"):
        vox2vec.evaluate(source, backbone, **options)
    with pytest.raises(ValueError, match=r"must be at least 1, got \{'epochs': 0\}"):
        Protocol(epochs=0)
    with pytest.raises(ValueError, match="neighbours must be at least 1"):
        Neighbours(neighbours=0)
    assert not (tmp_path / "log").exists()
