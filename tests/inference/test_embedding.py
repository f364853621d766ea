"""What an embedding answers, and its file."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.inference.scans import blob, tiny_backbone
from vox2vec.inference.embed import embed
from vox2vec.inference.embedding import Embedding, packed


@pytest.fixture(scope="module")
def embedding() -> Embedding:
    return embed(blob((30, 21, 17), 0), tiny_backbone((16, 16, 8)), precision="32", device="cpu", progress=False)


def test_a_point_has_the_vector_of_the_voxel_that_holds_it(embedding):
    voxel = np.array([[12, 5, 9]])
    centre = embedding.at(embedding.grid.to_mm(voxel))
    for corner in np.array([[-0.49, -0.49, -0.49], [0.49, -0.49, 0.49]]):
        torch.testing.assert_close(embedding.at(embedding.grid.to_mm(voxel + corner)), centre, rtol=0, atol=0)
    expected = [
        level[(slice(None), *(voxel[0] // stride))]
        for level, stride in zip(embedding.pyramid, embedding.strides, strict=True)
    ]
    torch.testing.assert_close(centre[0], torch.cat(expected).float(), rtol=0, atol=0)
    assert centre.shape == (1, embedding.num_channels)


def test_it_shows_itself_in_a_line_that_says_what_it_is(embedding):
    shown = repr(embedding)
    assert f"{embedding.num_channels} channels on {'x'.join(map(str, embedding.shape))} voxels of 1x1x2 mm" in shown
    assert embedding.fingerprint in shown
    assert len(shown) < 120


def test_points_outside_are_nan_or_refused_but_never_moved(embedding):
    face = embedding.grid.to_mm([[-0.5, 3, 3], [29.49, 3, 3]])
    assert embedding.at(face).isfinite().all()
    beyond = embedding.grid.to_mm([[-0.51, 3, 3], [3, 20.51, 3], [3, 3, -0.6], [3, 3, 3]])
    assert embedding.at(beyond).isnan().all(dim=1).tolist() == [True, True, True, False]
    with pytest.raises(ValueError, match=r"inside \[-7.5, .*3 do not: .*LPS"):
        embedding.at(beyond, outside="raise")
    assert embedding.at([[np.nan, 0, 0]]).isnan().all()
    assert embedding.at(np.zeros((0, 3))).shape == (0, embedding.num_channels)


def test_between_cells_vectors_are_linear_along_each_axis(embedding):
    voxels = np.stack(np.indices(embedding.shape), axis=-1).reshape(-1, 3)
    read = embedding.between(embedding.grid.to_mm(voxels)).T.reshape(-1, *embedding.shape)
    for part, level, stride in zip(
        read.split([len(level) for level in embedding.pyramid]), embedding.pyramid, embedding.strides, strict=True
    ):
        scale = tuple(float(s) for s in stride)
        finer = torch.nn.functional.interpolate(level[None].float(), scale_factor=scale, mode="trilinear")[0]
        x, y, z = embedding.shape
        torch.testing.assert_close(part, finer[:, :x, :y, :z], rtol=0, atol=1e-5)
    ends = embedding.grid.to_mm([[7, 5, 9], [8, 5, 9], [7.25, 5, 9]])  # of no level do cells' centres lie between
    one, other, quarter = embedding.between(ends)
    torch.testing.assert_close(quarter, 0.75 * one + 0.25 * other, rtol=0, atol=1e-5)
    assert embedding.between(embedding.grid.to_mm([[-0.51, 3, 3]])).isnan().all()


def test_averaging_is_over_the_cells_around_that_have_a_vector(embedding):
    finest = embedding.pyramid[0].clone()
    finest[:, 5:, 7:9, 3] = 0  # as where no window looked
    holed = replace(embedding, pyramid=(finest, *embedding.pyramid[1:]))
    for level, averaged in zip(holed.pyramid, holed.averaged().pyramid, strict=True):
        assert averaged.dtype == level.dtype
        for x, y, z in [(0, 0, 0), (6, 8, 3), (6, 7, 4), tuple(n - 1 for n in level.shape[1:])]:
            x, y, z = (min(at, n - 1) for at, n in zip((x, y, z), level.shape[1:], strict=True))
            near = level[:, max(x - 1, 0) : x + 2, max(y - 1, 0) : y + 2, max(z - 1, 0) : z + 2].flatten(1).float()
            mean = near[:, near.any(dim=0)].mean(dim=1)
            torch.testing.assert_close(averaged[:, x, y, z].float(), mean, rtol=2e-3, atol=1e-4)


def test_a_scan_of_two_slices_is_averaged_too(embedding):
    thin = replace(embedding, pyramid=tuple(level[..., :2].contiguous() for level in embedding.pyramid))
    for level, averaged in zip(thin.pyramid, thin.averaged().pyramid, strict=True):
        mean = level[:, :2, :2].float().flatten(1).mean(dim=1)
        torch.testing.assert_close(averaged[:, 0, 0, 0].float(), mean, rtol=2e-3, atol=1e-4)


def test_similarity_is_the_cosine_with_every_vector(embedding):
    point = embedding.grid.to_mm([[12, 5, 9]])
    vector = embedding.at(point)[0]
    similarity = embedding.similarity(vector)
    points = embedding.grid.to_mm(np.stack(np.indices(embedding.shape), axis=-1).reshape(-1, 3))
    slow = torch.nn.functional.cosine_similarity(embedding.at(points), vector[None]).reshape(embedding.shape)
    np.testing.assert_allclose(similarity.image, slow, atol=1e-5)
    np.testing.assert_array_equal(similarity.affine, embedding.affine)
    assert similarity.image[12, 5, 9] == pytest.approx(1, abs=1e-5)


def test_a_saved_embedding_is_read_back_equal(embedding, tmp_path):
    embedding.save(tmp_path / "scan.safetensors")
    read = Embedding.load(tmp_path / "scan.safetensors")
    for a, b in zip(embedding.pyramid, read.pyramid, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert (read.strides, read.shape, read.recipe) == (embedding.strides, embedding.shape, embedding.recipe)
    assert (read.fingerprint, read.covered_stride) == (embedding.fingerprint, embedding.covered_stride)
    np.testing.assert_array_equal(read.affine, embedding.affine)
    torch.testing.assert_close(read.covered, embedding.covered)
    np.testing.assert_array_equal(read.body, embedding.body)
    assert 0 < embedding.body.mean() < 1
    assert [p.name for p in tmp_path.iterdir()] == ["scan.safetensors"]


def test_in_a_file_of_the_first_format_the_body_is_what_windows_saw(embedding, tmp_path):
    partly = replace(embedding, covered=embedding.covered.clone())
    partly.covered[0] = False
    partly.save(tmp_path / "new.safetensors")
    with safe_open(tmp_path / "new.safetensors", framework="pt") as file:
        metadata = {**file.metadata(), "format_version": "1"}
    tensors = load_file(tmp_path / "new.safetensors")
    del tensors["body"]
    save_file(tensors, tmp_path / "old.safetensors", metadata)
    read = Embedding.load(tmp_path / "old.safetensors")
    np.testing.assert_array_equal(read.body, partly.has_vector())
    assert 0 < read.body.mean() < 1


def test_points_are_in_the_body_where_the_voxel_that_holds_them_is(embedding):
    voxels = np.argwhere(np.ones(embedding.shape))
    points = embedding.grid.to_mm(voxels + 0.3)
    np.testing.assert_array_equal(embedding.in_body(points), embedding.body.ravel())
    assert embedding.in_body([[999, 0, 0], [np.nan] * 3]).tolist() == [False, False]


def test_files_that_are_no_embedding_are_refused_by_name(embedding, tmp_path):
    path = tmp_path / "scan.safetensors"
    with pytest.raises(FileNotFoundError, match=r"no embedding at .*vox2vec embed SCAN -o"):
        Embedding.load(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="is not an embedding"):
        Embedding.load(path)
    embedding.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cut short or not an embedding"):
        Embedding.load(path)
    path.write_bytes(whole)
    tensors = load_file(path)
    described = json.dumps({"strides": []})
    save_file(tensors, path, {"format": "vox2vec-embedding", "format_version": "99", "embedding": described})
    with pytest.raises(ValueError, match="has format version 99, this vox2vec reads versions 1 and 2"):
        Embedding.load(path)


def test_impossible_questions_are_refused(embedding, unchecked_shapes):
    with pytest.raises(ValueError, match=r"\(v, 3\) millimetres, got shape \(3,\); one point is"):
        embedding.at([1, 2, 3])
    with pytest.raises(ValueError, match="got 'clamp'"):
        embedding.at([[1, 2, 3]], outside="clamp")
    with pytest.raises(ValueError, match=r"finite and not zero, got shape \(2,\)"):
        embedding.similarity(torch.ones(2))
    with pytest.raises(ValueError, match="with NaN: the point it was read at has no vector"):
        embedding.similarity(torch.full((embedding.num_channels,), torch.nan))


def test_a_similarity_map_leaves_the_vectors_as_they_were():
    """In single precision too, where no copy is made on reading a level."""
    scan = blob((20, 18, 12), 0)
    made = embed(scan, tiny_backbone((16, 16, 8)), precision="32", device="cpu", dtype=torch.float32, progress=False)
    before = [level.clone() for level in made.pyramid]
    made.similarity(made.at([made.grid.to_mm([9, 9, 6])])[0])
    assert all(torch.equal(level, kept) for level, kept in zip(made.pyramid, before, strict=True))


def test_around_a_point_is_the_mean_direction_of_the_body_in_the_box(embedding):
    body = np.zeros(embedding.shape, bool)
    body[:, :6] = True
    partly = replace(embedding, packed_body=packed(body))
    voxels = [(x, y, z) for x in range(9, 16) for y in range(2, 9) for z in (7, 8, 9) if body[x, y, z]]
    wanted = torch.nn.functional.normalize(partly.at(partly.grid.to_mm(np.array(voxels))), dim=1).mean(dim=0)
    point = partly.grid.to_mm([[12, 5, 8]])[0]
    torch.testing.assert_close(partly.around(point, 3.5), wanted)
    alone = torch.nn.functional.normalize(partly.at([point]), dim=1)[0]
    for less_than_a_voxel in (0, 0.9):
        torch.testing.assert_close(partly.around(point, less_than_a_voxel), alone)


def test_around_a_point_without_body_is_refused(embedding):
    body = np.zeros(embedding.shape, bool)
    body[:, :6] = True
    partly = replace(embedding, packed_body=packed(body))
    air = partly.grid.to_mm([[12, 15, 8]])[0]
    with pytest.raises(ValueError, match="all points must lie in the body"):
        partly.around(air, 3)
    with pytest.raises(ValueError, match="a radius not negative, got"):
        partly.around(air, -1)
