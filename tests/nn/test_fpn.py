"""The network, its heads and the reading of voxels, against the original's numbers."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.heads import LinearHead, NonLinearHead, ProjectionHead
from vox2vec.nn.pyramid import sample_pyramid


@pytest.fixture(scope="module")
def arrays(original):
    with np.load(original / "reference.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def meta(original):
    return json.loads((original / "reference_meta.json").read_text())


def test_names_shapes_and_dtypes_are_the_checkpoints(original):
    listed = json.loads((original / "fpn3d_state_dict.json").read_text())
    state = FPN3d().state_dict()
    assert list(state) == list(listed)
    for name, value in state.items():
        assert list(value.shape) == listed[name]["shape"]
        assert str(value.dtype) == f"torch.{listed[name]['dtype']}"
    assert sum(p.numel() for p in FPN3d().parameters()) == 47_624_448


def test_state_dicts_load_strictly_in_both_directions(arrays):
    given_state = _part(arrays, "fpn/sd/")
    backbone = FPN3d(1, 4, 3)
    backbone.load_state_dict(given_state, strict=True)
    for name, value in backbone.state_dict().items():
        torch.testing.assert_close(value, given_state.pop(name), rtol=0, atol=0)
    assert not given_state


def test_a_variant_with_other_numbers_of_blocks_has_the_originals_names(meta):
    deep = FPN3d(1, 2, 6, num_blocks=[2, 2, 4, 4, 8, 8])
    assert {n: list(v.shape) for n, v in deep.state_dict().items()} == meta["fpn_deep(1,2,6)"]


def test_heads_and_projector_have_the_originals_names(meta):
    heads = nn.ModuleList([LinearHead(16, 6, 13), NonLinearHead(16, 6, 13)])
    assert {f"heads.{n}": list(v.shape) for n, v in heads.state_dict().items()} == {
        n: shape for n, (shape, _) in meta["probing_heads"].items()
    }
    assert {f"proj_head.{n}": list(v.shape) for n, v in ProjectionHead().state_dict().items()} == {
        n: shape for n, (shape, _) in meta["vox2vec_proj_head"].items()
    }


def test_eval_outputs_equal_the_originals(arrays):
    backbone = _loaded(FPN3d(1, 4, 3), arrays, "fpn/sd/").eval()
    with torch.no_grad():
        pyramid = backbone(arrays["fpn/x"])
    assert len(pyramid) == 3
    for i, level in enumerate(pyramid):
        torch.testing.assert_close(level, arrays[f"fpn/eval/out{i}"], rtol=0, atol=1e-5)


def test_train_outputs_gradients_and_statistics_equal_the_originals(arrays):
    backbone = _loaded(FPN3d(1, 4, 3), arrays, "fpn/sd/").train()
    x = arrays["fpn/x"].clone().requires_grad_()
    pyramid = backbone(x)
    loss = sum(level.square().mean() for level in pyramid)
    loss.backward()
    for i, level in enumerate(pyramid):
        torch.testing.assert_close(level, arrays[f"fpn/train/out{i}"], rtol=0, atol=1e-5)
    torch.testing.assert_close(loss, arrays["fpn/train/loss_sum_of_mean_squares"], rtol=0, atol=1e-5)
    torch.testing.assert_close(x.grad, arrays["fpn/train/grad_x"], rtol=0, atol=1e-5)
    _compare_gradients(backbone, arrays, "fpn/")
    after = {n[len("fpn/") :]: v for n, v in arrays.items() if n.startswith("fpn/") and "sd_after/" in n}
    assert after
    for name, value in after.items():
        torch.testing.assert_close(backbone.state_dict()[name.split("sd_after/")[1]], value, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "kind"), [("linear", LinearHead), ("nonlinear", NonLinearHead)])
def test_heads_equal_the_originals(name, kind, arrays):
    pyramid = [arrays[f"fpn/eval/out{i}"] for i in range(3)]
    head = _loaded(kind(4, 3, 5), arrays, f"{name}/sd/")
    with torch.no_grad():
        torch.testing.assert_close(head.eval()(pyramid), arrays[f"{name}/eval/out"], rtol=0, atol=1e-5)
    out = head.train()(pyramid)
    torch.testing.assert_close(out, arrays[f"{name}/train/out"], rtol=0, atol=1e-5)
    out.square().mean().backward()
    _compare_gradients(head, arrays, f"{name}/")


@pytest.mark.parametrize("level", range(6))
def test_levels_have_the_originals_shapes_on_odd_sizes(level, arrays):
    with torch.no_grad():
        pyramid = FPN3d().eval()(torch.rand(1, 1, 40, 36, 17))
    assert tuple(pyramid[level].shape) == tuple(arrays[f"fpn16/eval/shape{level}"].tolist())


@settings(deadline=None, max_examples=25)
@given(size=st.tuples(*[st.integers(1, 21)] * 3), num_scales=st.integers(1, 4))
def test_any_size_from_one_voxel_gives_levels_of_ceil(size, num_scales):
    backbone = FPN3d(1, 2, num_scales).eval()
    with torch.no_grad():
        pyramid = backbone(torch.rand(1, 1, *size))
    for i, level in enumerate(pyramid):
        assert tuple(level.shape) == (1, 2 * 2**i, *(-(-s // 2**i) for s in size))


@settings(deadline=None, max_examples=10)
@given(size=st.tuples(*[st.integers(2, 13)] * 3))
def test_the_linear_head_is_one_linear_layer_on_the_concatenated_vectors(size):
    pyramid = [torch.rand(1, 3 * 2**i, *(-(-s // 2**i) for s in size)) for i in range(3)]
    head = LinearHead(3, 3, 4)
    voxels = torch.cartesian_prod(*(torch.arange(s) for s in size))
    weight = torch.cat([layer.weight[:, :, 0, 0, 0] for layer in head.layers], dim=1)
    with torch.no_grad():
        logits = sample_pyramid([level[0] for level in pyramid], voxels) @ weight.T + head.layers[0].bias
        expected = head(pyramid)[0].flatten(1).T
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


def test_sampled_vectors_equal_the_originals(arrays):
    pyramid = [arrays[f"select/pyr{i}"] for i in range(3)]
    torch.testing.assert_close(sample_pyramid(pyramid, arrays["select/indices"]), arrays["select/out"], rtol=0, atol=0)


def test_sampling_equals_reading_voxel_by_voxel_and_its_gradient_is_right():
    generator = torch.Generator().manual_seed(0)
    pyramid = [torch.rand(2**i, -(-9 // 2**i), -(-7 // 2**i), -(-4 // 2**i), generator=generator) for i in range(3)]
    voxels = torch.stack([torch.randint(0, n, (20,), generator=generator) for n in (9, 7, 4)], dim=1)
    slow = [torch.cat([lv[:, x >> i, y >> i, z >> i] for i, lv in enumerate(pyramid)]) for x, y, z in voxels.tolist()]
    torch.testing.assert_close(sample_pyramid(pyramid, voxels), torch.stack(slow), rtol=0, atol=0)
    doubles = [level.double().requires_grad_() for level in pyramid]
    assert torch.autograd.gradcheck(lambda *levels: sample_pyramid(levels, voxels), doubles)


def test_a_training_step_through_projector_and_backbone_equals_the_originals(arrays):
    """Loss and all gradients of InfoNCE, written out here; each view is projected with its own batch statistics.

    In float64, so that the only rounding is the original's own.
    """
    model = nn.ModuleDict({"backbone": FPN3d(1, 4, 3), "proj_head": ProjectionHead(28, 8)})
    model.load_state_dict(_part(arrays, "step/sd/"), strict=True)
    model.double()
    embeddings = []
    for view in (1, 2):
        pyramid = model["backbone"](arrays[f"step/patches_{view}"].double())
        vectors = [sample_pyramid([lv[i] for lv in pyramid], arrays[f"step/voxels_{view}_{i}"]) for i in range(2)]
        embeddings.append(model["proj_head"](torch.cat(vectors)))
    z = torch.cat(embeddings)
    logits = (z @ z.T / 0.1).fill_diagonal_(-torch.inf)
    positives = torch.arange(len(z)).roll(len(z) // 2)
    loss = nn.functional.cross_entropy(logits, positives)
    torch.testing.assert_close(loss, arrays["step/loss"].double(), rtol=0, atol=1e-5)
    loss.backward()
    _compare_gradients(model, arrays, "step/")
    after = _part(arrays, "step/sd_after/")
    for name, value in after.items():
        torch.testing.assert_close(model.state_dict()[name], value.to(model.state_dict()[name]), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 4, 0, 4), r"at least 1 voxel along each axis, got \(1, 1, 4, 0, 4\)"),
        ((1, 2, 4, 4, 4), r"takes \(n, 1, x, y, z\) with x, y, z >= 1, got \(1, 2, 4, 4, 4\)"),
        ((1, 4, 4, 4), r"takes \(n, 1, x, y, z\) with x, y, z >= 1, got \(1, 4, 4, 4\)"),
    ],
)
def test_inputs_the_network_cannot_take_are_refused(shape, message, unchecked_shapes):
    with pytest.raises(ValueError, match=message):
        FPN3d(1, 2, 2).eval()(torch.zeros(shape))


def test_a_single_patch_too_small_for_statistics_is_refused_in_train_mode_only():
    backbone = FPN3d(1, 2, 3)
    with pytest.raises(ValueError, match=r"more than 4 voxels \(at least 5\).*got \(1, 1, 4, 4, 4\)"):
        backbone.train()(torch.zeros(1, 1, 4, 4, 4))
    assert backbone(torch.zeros(1, 1, 5, 4, 4))[2].shape == (1, 8, 2, 1, 1)
    assert backbone.eval()(torch.zeros(1, 1, 1, 1, 1))[2].shape == (1, 8, 1, 1, 1)


def test_impossible_networks_heads_and_voxels_are_refused(unchecked_shapes):
    with pytest.raises(ValueError, match=r"must be at least 1.*num_scales=0"):
        FPN3d(num_scales=0)
    with pytest.raises(ValueError, match="one number of blocks or one for each scale"):
        FPN3d(num_blocks=[2, 2])
    pyramid = [torch.zeros(1, 2, 4, 4, 4), torch.zeros(1, 4, 2, 2, 2)]
    for head in (LinearHead(2, 3, 2), NonLinearHead(2, 3, 2)):
        with pytest.raises(ValueError, match="a pyramid of 3 levels, got 2"):
            head(pyramid)
    with pytest.raises(ValueError, match=r"inside the patch of \(4, 4, 4\), got \[0, 0, 4\]"):
        sample_pyramid([level[0] for level in pyramid], torch.tensor([[0, 0, 4]]))


def test_voxels_are_read_on_a_device_without_waiting_for_it():
    """Meta tensors have no values, so whatever asks for one, as a copy to the host would, raises."""
    pyramid = [torch.zeros(2, 4, 4, 4, device="meta"), torch.zeros(4, 2, 2, 2, device="meta")]
    assert sample_pyramid(pyramid, torch.zeros(5, 3, dtype=torch.long, device="meta")).shape == (5, 6)


def test_the_projector_gives_unit_vectors_under_autocast_too():
    """To float32's precision: bfloat16's is 0.4 %."""
    torch.manual_seed(0)
    head, vectors = ProjectionHead(28, 16), torch.randn(64, 28)
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = head(vectors)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(64), rtol=0, atol=1e-6)
    assert head.double()(vectors.double()).dtype == torch.float64


def _part(arrays, prefix):
    return {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}


def _loaded(module, arrays, prefix):
    module.load_state_dict(_part(arrays, prefix), strict=True)
    return module


def _compare_gradients(module, arrays, prefix):
    """Within 2e-5 of the layer's largest: a bias before a BatchNorm has gradient 0 and its weight's rounding."""
    gradients = {n.split("/grad/")[1]: v for n, v in arrays.items() if n.startswith(prefix) and "/grad/" in n}
    assert set(gradients) == {name for name, _ in module.named_parameters()}
    for name, parameter in module.named_parameters():
        layer = name.rpartition(".")[0]
        largest = max(float(v.abs().max()) for n, v in gradients.items() if n.rpartition(".")[0] == layer)
        wanted = gradients[name].to(parameter)
        torch.testing.assert_close(parameter.grad, wanted, rtol=0, atol=2e-5 * max(1.0, largest))
