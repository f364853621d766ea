"""Features of whole volumes against the slow formula."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vox2vec.inference.embed as embed_module
from tests.inference.scans import blob, tiny_backbone
from vox2vec.data.cache import Cache
from vox2vec.data.phantom import phantom
from vox2vec.data.sources.phantoms import Phantoms
from vox2vec.inference.embed import Embedder, embed
from vox2vec.inference.windows import Windows
from vox2vec.preprocessing.body import body_mask, with_cut_lungs
from vox2vec.preprocessing.intensity import scale_hu
from vox2vec.preprocessing.prepare import prepare, prepare_hu
from vox2vec.volume import Volume

EXACT = {"precision": "32", "device": "cpu", "dtype": torch.float32, "progress": False}


@settings(deadline=None, max_examples=12)
@given(
    shape=st.tuples(st.integers(5, 40), st.integers(5, 40), st.integers(3, 25)),
    patch=st.sampled_from([(16, 16, 8), (12, 20, 6), (32, 32, 16), (9, 7, 5)]),
    overlap=st.sampled_from([0.0, 0.25, 0.5]),
    seed=st.integers(0, 9),
)
def test_the_embedding_equals_the_formula(shape, patch, overlap, seed):
    """Volumes smaller than a patch, of odd sizes, and larger."""
    backbone = tiny_backbone(patch)
    scan = blob(shape, seed)
    embedding = embed(scan, backbone, overlap=overlap, **EXACT)
    vectors, covered = slow_formula(scan, backbone, overlap)
    points = embedding.grid.to_mm(np.stack(np.indices(embedding.shape), axis=-1).reshape(-1, 3))
    fast = embedding.at(points).reshape(*embedding.shape, -1).numpy()
    np.testing.assert_array_equal(np.isnan(fast).any(axis=-1), ~covered)
    np.testing.assert_allclose(fast[covered], vectors[covered], atol=1e-4)


def test_half_precision_storage_changes_only_the_rounding():
    scan, backbone = blob((40, 30, 20), 0), tiny_backbone((16, 16, 8))
    single = embed(scan, backbone, **EXACT)
    half = embed(scan, backbone, **EXACT | {"dtype": torch.float16})
    for a, b in zip(single.pyramid, half.pyramid, strict=True):
        assert b.dtype == torch.float16
        torch.testing.assert_close(a, b.float(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("batch_size", [2, 5, 100])
def test_the_batch_size_changes_nothing(batch_size):
    scan, backbone = blob((40, 30, 20), 1), tiny_backbone((16, 16, 8))
    single = embed(scan, backbone, **EXACT)
    batched = embed(scan, backbone, batch_size=batch_size, **EXACT)
    for a, b in zip(single.pyramid, batched.pyramid, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_the_order_of_the_windows_changes_nothing(monkeypatch):
    scan, backbone = blob((40, 30, 20), 1), tiny_backbone((16, 16, 8))
    forward = embed(scan, backbone, **EXACT)
    holding = Windows.holding
    monkeypatch.setattr(Windows, "holding", lambda *a: sorted(holding(*a), key=lambda s: (s[2], -s[0], -s[1])))
    backward = embed(scan, backbone, **EXACT)
    for a, b in zip(forward.pyramid, backward.pyramid, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_windows_without_body_are_not_computed(monkeypatch):
    image = np.full((64, 64, 16), -1000, np.int16)
    image[:10, :10] = image[-10:, -10:] = 50
    scan = Volume(image, np.diag([1, 1, 2, 1]))
    seen = []
    runner = embed_module.backbone_runner

    def counting(*args, **kwargs):
        run = runner(*args, **kwargs)
        return lambda patches: seen.append(len(patches)) or run(patches)

    monkeypatch.setattr(embed_module, "backbone_runner", counting)
    embedding = embed(scan, tiny_backbone((16, 16, 16)), **EXACT)
    assert sum(seen) == 8  # of 49: two each way at both ends
    middle = embedding.grid.to_mm([[32, 32, 8]])
    assert embedding.at(middle).isnan().all()
    with pytest.raises(ValueError, match="all points must lie in the body"):
        embedding.at(middle, outside="raise")


def test_a_path_gives_what_its_volume_gives(tmp_path):
    scan, backbone = blob((20, 20, 10), 2), tiny_backbone((16, 16, 8))
    scan.save(tmp_path / "scan.nii.gz")
    one, other = embed(tmp_path / "scan.nii.gz", backbone, **EXACT), embed(scan, backbone, **EXACT)
    for a, b in zip(one.pyramid, other.pyramid, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_the_same_patient_stored_with_other_axes_has_the_same_vectors():
    scan, backbone = blob((24, 30, 20), 3), tiny_backbone((16, 16, 8))
    flipped = Volume(scan.image[::-1, :, ::-1], scan.affine @ np.array(
        [[-1, 0, 0, 23], [0, 1, 0, 0], [0, 0, -1, 19], [0, 0, 0, 1]]
    ))  # fmt: skip
    permuted = Volume(flipped.image.transpose(2, 0, 1), flipped.affine[:, [2, 0, 1, 3]])
    points = scan.to_mm(np.argwhere(scan.image > -500)[::50])
    expected = embed(scan, backbone, **EXACT).at(points)
    torch.testing.assert_close(embed(permuted, backbone, **EXACT).at(points), expected, rtol=0, atol=1e-4)


def test_a_backbone_in_train_mode_is_used_in_eval_mode_and_left_as_it_was():
    scan, backbone = blob((20, 20, 10), 2), tiny_backbone((16, 16, 8))
    expected = embed(scan, backbone, **EXACT)
    backbone.train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    embedding = embed(scan, backbone, **EXACT)
    assert backbone.training
    for name, value in backbone.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    torch.testing.assert_close(embedding.pyramid[0], expected.pyramid[0], rtol=0, atol=0)


def test_the_body_travels_with_the_vectors():
    scan, backbone = blob((24, 20, 10), 2), tiny_backbone((16, 16, 8))
    embedding = embed(scan, backbone, **EXACT)
    published = body_mask(prepare_hu(scan, backbone.recipe).image)
    np.testing.assert_array_equal(embedding.body, with_cut_lungs(published))


def test_a_cached_scan_gives_what_its_volume_gives(tmp_path):
    scan, backbone = phantom(0, spacing_mm=(9, 9, 9)), tiny_backbone((16, 16, 8), spacing_mm=(9.0, 9.0, 9.0))
    cache = Cache(tmp_path, backbone.recipe, table=True)
    entry = cache.store(Phantoms(1, spacing_mm=(9, 9, 9)), Phantoms(1, spacing_mm=(9, 9, 9)).ids[0])
    one, other = embed(cache.open(entry), backbone, **EXACT), embed(scan.volume, backbone, **EXACT)
    np.testing.assert_array_equal(one.body, other.body)
    np.testing.assert_allclose(one.affine, other.affine)
    for a, b in zip(one.pyramid, other.pyramid, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-3)  # the cache rounds to whole HU
    with pytest.raises(ValueError, match=r"must lie on the grid of the weights, \(1.0, 1.0, 2.0\) mm, got"):
        embed(cache.open(entry), tiny_backbone((16, 16, 8)), **EXACT)


def test_an_embedder_gives_many_scans_what_embed_gives_each_and_tries_bfloat16_once(monkeypatch):
    backbone, made = tiny_backbone((16, 16, 8)), []
    runner = embed_module.backbone_runner
    monkeypatch.setattr(embed_module, "backbone_runner", lambda *a, **k: made.append(1) or runner(*a, **k))
    embedder = Embedder(backbone, **EXACT)
    for scan in (blob((24, 20, 10), 2), blob((17, 30, 12), 3)):
        found = embedder(scan)
        for a, b in zip(found.pyramid, embed(scan, backbone, **EXACT).pyramid, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert len(made) == 3  # one for the embedder, one for each call of embed


def test_values_beyond_float16_are_kept_in_bfloat16_or_refused_by_level(caplog):
    scan, backbone = blob((20, 20, 10), 2), tiny_backbone((16, 16, 8))
    with torch.no_grad():
        for module in backbone.right_blocks[-1].modules():
            if isinstance(module, torch.nn.Conv3d):
                module.weight.mul_(1e4)
    exact = embed(scan, backbone, **EXACT)
    assert exact.pyramid[0].abs().max() > torch.finfo(torch.float16).max
    found = embed(scan, backbone, **EXACT | {"dtype": None})
    assert [level.dtype for level in found.pyramid] == [torch.bfloat16, *[torch.float16] * 3]
    torch.testing.assert_close(found.pyramid[0].float(), exact.pyramid[0], rtol=1e-2, atol=1e-2)
    assert "level 0 has values up to" in caplog.text
    assert found.at(found.grid.to_mm(np.argwhere(found.body))).isfinite().all()
    with pytest.raises(ValueError, match=r"level 0 has values up to .* take dtype=torch.bfloat16 or torch.float32"):
        embed(scan, backbone, **EXACT | {"dtype": torch.float16})
    with torch.no_grad():
        backbone.right_blocks[-1].apply(lambda m: m.weight.fill_(torch.nan) if hasattr(m, "weight") else None)
    with pytest.raises(ValueError, match="level 0 of the network gives NaN or infinity"):
        embed(scan, backbone, **EXACT)


def test_the_backbones_recipe_prepares_the_scan():
    scan = blob((40, 40, 20), 0)
    backbone = tiny_backbone((16, 16, 8), spacing_mm=(2.0, 2.0, 4.0))
    embedding = embed(scan, backbone, **EXACT)
    np.testing.assert_allclose(embedding.affine, prepare(scan, backbone.recipe).affine)
    assert embedding.grid.spacing_mm == (2, 2, 4)
    assert embedding.recipe == backbone.recipe


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"overlap": 1.0}, r"in \[0, 1\), got 1.0"),
        ({"precision": "fp8"}, "precision must be .* got 'fp8'"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message, unchecked_shapes):
    with pytest.raises(ValueError, match=message):
        embed(blob((8, 8, 8), 0), tiny_backbone((8, 8, 8)), **EXACT | arguments)


def slow_formula(scan, backbone, overlap):
    """Every voxel's vector by the sum over the windows that hold it, and where there is one."""
    prepared = prepare_hu(scan, backbone.recipe)
    image = scale_hu(prepared.image, backbone.recipe.window_hu)
    mask = body_mask(prepared.image)
    windows = Windows.over(prepared.shape, backbone.recipe.patch_size, overlap=overlap)
    beyond = [max(s[-1] + n - m, 0) for s, n, m in zip(windows.starts, windows.size, image.shape, strict=True)]
    padded = torch.from_numpy(np.pad(image, [(0, b) for b in beyond], mode="edge"))
    g_of_block = windows.weight()
    total = np.zeros((*image.shape, sum(backbone.channels)))
    weight = np.zeros(image.shape)
    for start in [(x, y, z) for x in windows.starts[0] for y in windows.starts[1] for z in windows.starts[2]]:
        inside = tuple(slice(s, s + n) for s, n in zip(start, windows.size, strict=True))
        if not mask[inside].any():
            continue
        with torch.no_grad():
            levels = [level[0].numpy() for level in backbone(padded[inside][None, None])]
        for offset in np.ndindex(image[inside].shape):
            v = tuple(np.add(start, offset))
            g = g_of_block[tuple(o // b for o, b in zip(offset, windows.block, strict=True))]
            vector = [f[(slice(None), *(o // 2**i for o in offset))] for i, f in enumerate(levels)]
            total[v] += g * np.concatenate(vector)
            weight[v] += g
    covered = weight > 0
    return total / np.where(covered, weight, 1)[..., None], covered
