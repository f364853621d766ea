"""Flips, turns, rotations and rescaling: voxels stay with what they show."""

import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform
from scipy.stats import binomtest, kstest

from vox2vec.augmentation.space import Space, draw_space, with_space

SHAPE = (24, 24, 10)


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _patches(n=4, shape=SHAPE):
    """No two voxels alike."""
    return torch.arange(n * np.prod(shape)).reshape(n, 1, *shape).float()


def _voxels(n=4, v=50, shape=SHAPE):
    return [torch.stack([torch.randint(s, (v,), generator=_generator(i)) for s in shape], dim=1) for i in range(n)]


def test_by_default_nothing_changes():
    views, moved, stayed = with_space(_patches(), _voxels(), draw_space(4, generator=_generator()), fill=-1024)
    assert torch.equal(views, _patches())
    assert all(torch.equal(a, b) for a, b in zip(moved, _voxels(), strict=True))
    assert all(bool(s.all()) for s in stayed)


@pytest.mark.parametrize("flips", list(itertools.product([1.0, -1.0], repeat=3)))
@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_flips_and_quarter_turns_carry_each_voxels_exact_value(flips, quarters):
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    matrix = torch.linalg.matrix_power(quarter, quarters)
    drawn = Space((matrix @ torch.diag(torch.tensor(flips)))[None])
    views, moved, stayed = with_space(_patches(1), _voxels(1), drawn, fill=-1024)
    assert stayed[0].all()
    assert torch.equal(views[0, 0][tuple(moved[0].T)], _patches(1)[0, 0][tuple(_voxels(1)[0].T)])
    assert torch.equal(views.flatten().sort().values, _patches(1).flatten())


def test_a_drawn_quarter_turn_moves_a_voxel_with_its_value():
    patch = torch.zeros(1, 1, 5, 5, 1)
    patch[0, 0, 4, 2] = 1.0  # to the right of the centre
    for seed in range(20):
        drawn = draw_space(1, generator=_generator(seed), quarter_turn_probability=1.0)
        views, moved, _ = with_space(patch, [torch.tensor([[4, 2, 0]])], drawn, fill=0)
        assert views[0, 0][tuple(moved[0][0])] == 1.0
        assert moved[0][0].tolist() != [4, 2, 0]


@pytest.mark.parametrize("seed", range(5))
def test_rotation_and_scale_equal_scipys_interpolation(seed):
    drawn = draw_space(1, generator=_generator(seed), flip_probability=0.5, rotation_deg=20, scale=(0.8, 1.25))
    patch = torch.randn(1, 1, *SHAPE, generator=_generator(seed))
    views, _, _ = with_space(patch, _voxels(1), drawn, fill=-3.0)
    matrix, half = drawn.matrix[0].double().numpy(), (np.array(SHAPE) - 1) / 2
    wanted = affine_transform(
        patch[0, 0].double().numpy(), matrix, half - matrix @ half, order=1, mode="grid-constant", cval=-3.0
    )
    np.testing.assert_allclose(views[0, 0], wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_a_voxel_goes_where_the_view_shows_it(seed):
    """Of a patch whose value is the place, the view shows at each voxel's new place its old one, to half a voxel."""
    drawn = draw_space(1, generator=_generator(seed), flip_probability=0.5, rotation_deg=15, scale=(0.9, 1.2))
    voxels = _voxels(1)
    inner, _, _ = with_space(torch.ones(1, 1, *SHAPE), voxels, drawn, fill=0)
    for axis in range(3):
        ramp = torch.arange(SHAPE[axis]).float().reshape([-1 if i == axis else 1 for i in range(3)]).expand(SHAPE)
        views, moved, stayed = with_space(ramp[None, None], voxels, drawn, fill=0)
        shown = views[0, 0][tuple(moved[0].T)]
        asked = voxels[0][stayed[0], axis]
        reach = 0.5 * drawn.matrix[0].abs().sum(dim=1)[axis]  # of a step to the nearest voxel
        seen = inner[0, 0][tuple(moved[0].T)] > 1 - 1e-5  # elsewhere the fill mixes in
        assert seen.float().mean() > 0.7
        assert ((shown - asked)[seen].abs() <= reach + 1e-3).all()


def test_voxels_that_leave_the_view_are_told():
    drawn = Space(torch.eye(3)[None] / 2)  # twice as large
    voxels = [torch.tensor([[0, 0, 0], [12, 12, 5], [23, 23, 9]])]
    _, moved, stayed = with_space(_patches(1), voxels, drawn, fill=0)
    assert stayed[0].tolist() == [False, True, False]
    assert moved[0].tolist() == [[13, 13, 6]]


def test_rotations_are_of_the_patient_not_of_its_voxels():
    """With 2 mm slices the matrix is a rotation in millimetres."""
    spacing = torch.tensor([1.0, 1.0, 2.0])
    matrix = draw_space(3, generator=_generator(), rotation_deg=30).matrix
    in_mm = matrix * spacing[None, :, None] / spacing[None, None, :]
    torch.testing.assert_close(in_mm @ in_mm.mT, torch.eye(3).expand(3, 3, 3), rtol=0, atol=1e-5)
    assert (torch.linalg.det(in_mm) > 0).all()


def test_each_step_is_as_frequent_as_asked():
    flipped = draw_space(2000, generator=_generator(), flip_probability=0.3).matrix
    for axis in range(3):
        assert binomtest(int((flipped[:, axis, axis] < 0).sum()), 2000, 0.3).pvalue > 1e-3
    turned = draw_space(2000, generator=_generator(), quarter_turn_probability=0.6).matrix
    for count in (
        ((turned[:, 0, 0] == -1).sum()),
        ((turned[:, 0, 1] == -1).sum()),
        ((turned[:, 0, 1] == 1).sum()),
    ):
        assert binomtest(int(count), 2000, 0.2).pvalue > 1e-3
    scaled = draw_space(2000, generator=_generator(), scale=(0.5, 2.0)).matrix[:, 0, 0].double().log2().numpy()
    assert kstest((scaled + 1) / 2, "uniform").pvalue > 1e-3


def test_the_same_seed_gives_the_same_views():
    options = {"flip_probability": 0.5, "rotation_deg": 10.0, "scale": (0.9, 1.1)}
    one, same, other = (draw_space(4, generator=_generator(seed), **options).matrix for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_other_numbers_of_patches_are_refused():
    with pytest.raises(ValueError, match="must be those of the 4 patches, got 3 and 4"):
        with_space(_patches(), _voxels(), draw_space(3, generator=_generator()), fill=0)


@pytest.mark.gpu
def test_a_gpu_gives_the_cpus_views():
    drawn = draw_space(4, generator=_generator(), flip_probability=0.5, rotation_deg=10, scale=(0.9, 1.1))
    here, _, _ = with_space(_patches(), _voxels(), drawn, fill=0)
    there, moved, _ = with_space(_patches().cuda(), [v.cuda() for v in _voxels()], drawn, fill=0)
    torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-2)
    assert moved[0].is_cuda
