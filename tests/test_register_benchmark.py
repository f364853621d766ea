"""The comparison of registrations: its figures are what they are called, and its ways undo a known map."""

import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import SimpleITK as sitk

from benchmarks.register import WAYS, added, read
from benchmarks.registration.answer import Displacement, carried, folding, on_cubes, places_of
from benchmarks.registration.by_simpleitk import image_of
from benchmarks.registration.measure import measured
from benchmarks.registration.pairs import Pair, pairs_of, shared_points
from benchmarks.registration.report import report
from vox2vec.data.phantom import phantom
from vox2vec.volume import Volume

TURNED = np.array([[1.04, 0.05, 0, 12], [-0.05, 0.98, 0.02, -9], [0, 0, 1.03, 15], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder like ../shared/data with one pair: a phantom, and the same laid elsewhere by `TURNED`."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "pairs").mkdir()
    patient = phantom(0, spacing_mm=(8, 8, 8))
    points = np.array(list(patient.landmarks.values()))
    there = points @ TURNED[:3, :3].T + TURNED[:3, 3]
    followup = Volume(patient.volume.image, TURNED @ patient.volume.affine).onto(patient.volume, fill=-1000)
    for name, scan in (("baseline", patient.volume), ("followup", followup)):
        sitk.WriteImage(image_of(scan), folder / "pairs" / f"lung_{name}.mha")
    lps = np.concatenate([points * [-1, -1, 1], there * [-1, -1, 1]], axis=1)
    np.savetxt(folder / "pairs" / "lung_landmarks_LPS.csv", lps, delimiter=",", header="x,y,z,x,y,z", comments="")
    return folder


@pytest.fixture
def pair(data):
    one = pairs_of(data)[0]
    return Pair(one.name, one.group, one.fixed, one.moving, 8.0, one.truth)


def _affine_of(grid: Volume, matrix: np.ndarray) -> Displacement:
    here = places_of(grid)
    return Displacement(grid, here @ matrix[:3, :3].T + matrix[:3, 3] - here)


def test_an_affine_displacement_is_exact_between_voxels():
    grid = Volume(np.zeros((5, 6, 7)), np.diag([-2.0, 3, 4, 1]))
    points = grid.to_mm(np.random.default_rng(0).uniform(0, 4, (20, 3)))
    found = _affine_of(grid, TURNED).answer.points(points)
    np.testing.assert_allclose(found, points @ TURNED[:3, :3].T + TURNED[:3, 3], atol=1e-9)


def test_a_mirror_folds_everywhere_and_a_turn_nowhere():
    scan = Volume(np.zeros((8, 8, 8)), np.eye(4))  # 0 HU: all of it is body
    assert folding(_affine_of(scan, TURNED), scan) == 0
    assert folding(_affine_of(scan, np.diag([-1.0, 1, 1, 1])), scan) == 1
    half = _affine_of(scan, np.eye(4))
    half.by_mm[4:, ..., 0] = 2 * (3.5 - places_of(scan)[4:, ..., 0])  # the right half turns back onto the left
    assert folding(half, scan) == pytest.approx(4 / 7)


def test_labels_are_carried_against_the_map_and_nothing_comes_from_beyond_the_scan():
    labels = Volume(np.random.default_rng(0).integers(1, 5, (6, 5, 4)), np.eye(4))
    found = carried(lambda points: points + np.array([2, 0, -1]), labels, labels)
    expected = np.zeros_like(labels.image)
    expected[:4, :, 1:] = labels.image[2:, :, :3]
    np.testing.assert_array_equal(found, expected)
    assert not carried(lambda points: np.full_like(points, np.nan), labels, labels).any()


def test_points_are_drawn_where_both_scans_have_a_body():
    fixed, moving = (on_cubes(phantom(seed, spacing_mm=(8, 8, 8)).volume, 8.0) for seed in (0, 1))
    points = shared_points(fixed, moving, 50)
    assert len(points) == 50
    for scan in (fixed, moving):
        voxels = scan.to_voxels(points)
        assert ((voxels >= -0.5) & (voxels < np.array(scan.shape) - 0.5)).all()
    np.testing.assert_array_equal(points, shared_points(fixed, moving, 50))


def test_a_known_affine_map_is_found(pair):
    told = measured(pair, "by_simpleitk.affine")
    assert np.median(measured(pair, "ours.identity")["errors_mm"]) > 10
    assert np.median(told["errors_mm"]) < 3
    assert told["folding"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "package", "within_mm"),
    [
        ("by_simpleitk.bspline_mutual_information", "SimpleITK", 4),
        ("by_simpleitk.bspline_correlation", "SimpleITK", 4),
        ("by_elastix.default", "itk", 8),  # control points 10 mm apart on voxels of 8 mm bend more than they should
        ("by_convex_adam.after_affine", "convexAdam", 4),
    ],
)
def test_a_bending_way_finds_a_known_affine_map(way, package, within_mm, pair):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install '.[benchmark]'")
    code = f"""
import json
from pathlib import *
from benchmarks.registration.measure import measured
from benchmarks.registration.pairs import Pair
print(json.dumps(measured({pair!r}, {way!r})))
"""  # in a process of its own: itk crashes where warnings are errors
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert np.median(told["errors_mm"]) < within_mm
    assert told["folding"] < 0.01


def test_a_way_that_is_too_slow_leaves_a_line_that_says_so_and_is_not_tried_again(data, tmp_path):
    results, lung = tmp_path / "results.jsonl", pairs_of(data)[0]
    for limit_s in (0.1, 300):
        added(results, data, lung, "ours.field", limit_s, threads=1)
    (line,) = read(results)
    assert line["failed"] == "not done after 0.1 s"


@pytest.mark.slow
def test_a_line_has_the_errors_or_why_there_are_none(data, tmp_path):
    results, lung = tmp_path / "results.jsonl", pairs_of(data)[0]
    for way in ("ours.identity", "ours.nothing"):
        added(results, data, lung, way, limit_s=300, threads=1)
    worked, failed = read(results)
    assert np.median(worked["errors_mm"]) > 10
    assert worked["folding"] == 0
    assert "nothing" in failed["failed"]


def test_the_report_says_what_the_lines_say():
    base = {"seconds": 10.0, "cpu_s": 9.0, "gib": 1.0, "folding": 0.01}
    lines = [
        {"pair": "a", "way": "ours.identity", **base, "errors_mm": [1.0, 2.0, 6.0]},
        {"pair": "b", "way": "ours.identity", **base, "errors_mm": [float("inf")], "seconds": 20.0, "gib": 2.0},
        {"pair": "a", "way": "ours.field", "failed": "not done after 1 s"},
        {"pair": "c", "way": "ours.field", **base, "dice": {"1": 0.5, "2": 0.7, "3": float("nan")}},
    ]
    lines = [json.loads(json.dumps(line)) for line in lines]
    text = report(lines, {"near": ["a", "b"], "labels": ["c"], "none yet": ["d"]}, WAYS)
    assert "| identity | 4.0 | not found | 50% | 1.00% | 15 | 9 | 2.0 |" in text
    assert "0 of 2 pairs; not done after 1 s" in text
    assert "| field | 0.600 | 1.00% | 10 | 9 | 1.0 |" in text
    assert "none yet" not in text
