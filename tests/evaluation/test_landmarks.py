import numpy as np
import torch

from vox2vec.data.phantom import Phantom, phantom
from vox2vec.evaluation.demo import RECIPE
from vox2vec.evaluation.landmarks import CORRELATION_RADII_MM, landmark_errors, landmark_table
from vox2vec.nn.fpn import FPN3d
from vox2vec.volume import Volume


def test_every_way_finds_the_landmarks_of_a_moved_copy_and_not_those_of_wrong_truth():
    one = phantom(3, spacing_mm=RECIPE.spacing_mm)
    moved_mm = np.array([21.0, -33.0, 47.0])
    affine = one.volume.affine.copy()
    affine[:3, 3] += moved_mm
    volume, labels = Volume(one.volume.image, affine), Volume(one.labels.image, affine)
    copy = Phantom(volume, labels, {name: place + moved_mm for name, place in one.landmarks.items()})
    torch.manual_seed(0)
    network = FPN3d(base_channels=8, num_scales=3).eval()
    network.recipe = RECIPE
    errors = landmark_errors([one, copy], {"untrained": network}, RECIPE)
    assert list(errors) == [
        "untrained",
        "untrained, by the field",
        *(f"correlation, radius {r:g} mm" for r in CORRELATION_RADII_MM),
    ]
    for off_mm in errors.values():
        assert len(off_mm) == 2 * len(one.landmarks)
        assert (off_mm[np.isfinite(off_mm)] < 5 * np.sqrt(3)).all()  # a voxel's diagonal
        assert np.isfinite(off_mm).mean() > 0.6
    wrong = Phantom(volume, labels, one.landmarks)  # as if the copy had not moved
    assert np.median(landmark_errors([one, wrong], {"untrained": network}, RECIPE)["untrained"]) > 40


def test_what_was_not_found_is_an_error_without_bound():
    errors = {"some": np.array([1.0, 2.0, np.inf]), "none": np.full(3, np.inf)}
    header, rows = landmark_table(errors, within_mm=1.5)
    assert header[-1] == "within 1.5 mm"
    assert rows == [["some", "2.0 mm", "2.0 mm", "33%"], ["none", "not found", "not found", "0%"]]
