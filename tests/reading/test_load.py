"""The door `load_volume`: NRRD, MetaImage, and what it turns away."""

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from PIL import Image

from tests.geometries import affines
from vox2vec.reading.load import load_volume

HU = (np.arange(24).reshape(2, 3, 4) * 100 - 1000).astype(np.int16)
LPS = np.diag([-1.0, -1, 1, 1])


def write(path, image=HU, affine=None, **options):
    """By SimpleITK, from an image (x, y, z) and an affine to RAS."""
    lps = LPS @ (np.eye(4) if affine is None else affine)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    itk = SimpleITK.GetImageFromArray(image.transpose(2, 1, 0, *range(3, image.ndim)), isVector=image.ndim > 3)
    itk.SetSpacing(spacing.tolist())
    itk.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    itk.SetOrigin(lps[:3, 3].tolist())
    SimpleITK.WriteImage(itk, str(path), **options)
    return path


@pytest.mark.parametrize("ending", [".nrrd", ".nhdr", ".mha", ".mhd", ".NRRD"])
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_hu_and_places_are_those_of_the_file(ending, dtype, tmp_path, capfd):
    affine = np.array([[0, -0.7, 0, 3], [1.5, 0, 0, -80], [0, 0, 4, 7], [0, 0, 0, 1.0]])
    volume = load_volume(write(tmp_path / f"scan{ending}", HU.astype(dtype), affine, useCompression="h" not in ending))
    np.testing.assert_array_equal(volume.image, HU)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-9)
    assert volume.image.dtype == np.int16
    assert capfd.readouterr() == ("", "")


@settings(max_examples=25, deadline=None)
@given(affine=affines(oblique=True))
def test_oblique_and_sheared_grids_come_through(affine, tmp_path_factory):
    for ending in (".nrrd", ".mha"):
        path = write(tmp_path_factory.mktemp("itk") / f"scan{ending}", HU, affine)
        np.testing.assert_allclose(load_volume(path).affine, affine, atol=1e-6)


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", [-1, -1, 1]),
        ("right-anterior-superior", [1, 1, 1]),
        ("RAS", [1, 1, 1]),
        ("LAS", [-1, 1, 1]),
    ],
)
def test_every_space_of_nrrd_becomes_ras(space, signs, tmp_path):
    header = (
        f"NRRD0004\ntype: short\ndimension: 3\nspace: {space}\nsizes: 2 3 4\n"
        "space directions: (2,0,0) (0,3,0) (0,0,4)\nkinds: domain domain domain\nendian: little\n"
        "encoding: raw\nspace origin: (10,20,30)\n\n"
    )
    (tmp_path / "scan.nrrd").write_bytes(header.encode() + HU.tobytes(order="F"))
    volume = load_volume(tmp_path / "scan.nrrd")
    np.testing.assert_array_equal(volume.image, HU)
    np.testing.assert_allclose(volume.to_mm([1, 1, 1]), np.array([12, 23, 34]) * signs)


def test_files_that_do_not_state_their_orientation_are_warned_of(tmp_path):
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 3 4\nspacings: 1 1 1\nendian: little\nencoding: raw\n\n"
    (tmp_path / "scan.nrrd").write_bytes(header.encode() + HU.tobytes(order="F"))
    (tmp_path / "scan.raw").write_bytes(HU.tobytes(order="F"))
    (tmp_path / "scan.mhd").write_text(
        "NDims = 3\nDimSize = 2 3 4\nElementSpacing = 1 1 1\nElementType = MET_SHORT\nElementDataFile = scan.raw\n"
    )
    for name in ("scan.nrrd", "scan.mhd"):
        with pytest.warns(UserWarning, match=f"{name}: the orientation is not stated, assumed axes left, posterior"):
            np.testing.assert_array_equal(load_volume(tmp_path / name).image, HU)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.stack([HU] * 3, axis=-1), r"one number a voxel, got 3 \(RGB or a vector\)"),
        (HU[:, :, :1], r"a single slice of shape \(2, 3, 1\)"),
        (np.where(HU == 0, np.nan, HU), "must hold finite HU"),
    ],
)
@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_images_that_are_no_ct_volume_are_refused(image, message, ending, tmp_path):
    path = write(tmp_path / f"scan{ending}", image)
    with pytest.raises(ValueError, match=message):
        load_volume(path)


@pytest.mark.filterwarnings("ignore:.*orientation is not stated")  # NRRD knows no space of four axes
@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_phases_are_refused_and_a_single_one_is_read(ending, tmp_path):
    for phases in (1, 2):
        itk = SimpleITK.JoinSeries([SimpleITK.GetImageFromArray(HU.transpose(2, 1, 0))] * phases)
        SimpleITK.WriteImage(itk, str(tmp_path / f"{phases}{ending}"))
    with pytest.raises(ValueError, match=r"must have three axes, got shape \(2, 3, 4, 2\)"):
        load_volume(tmp_path / f"2{ending}")
    np.testing.assert_array_equal(load_volume(tmp_path / f"1{ending}").image, HU)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_file_cut_short_is_refused(ending, compressed, tmp_path):
    noise = np.random.default_rng(0).integers(-1000, 1000, (20, 20, 20)).astype(np.int16)
    path = write(tmp_path / f"scan{ending}", noise, useCompression=compressed)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="truncated, corrupt, or its data file is missing"):
        load_volume(path)


def test_a_header_without_its_data_file_is_refused(tmp_path):
    write(tmp_path / "scan.mhd")
    (tmp_path / "scan.raw").unlink()
    with pytest.raises(ValueError, match=r"scan.mhd must be a whole .mhd file, .*its data file is missing"):
        load_volume(tmp_path / "scan.mhd")


@pytest.mark.parametrize("name", ["picture.png", "scan.zip", "noextension", "scan.gz"])
def test_an_unknown_file_is_refused_with_the_formats_that_are_read(name, tmp_path):
    Image.new("L", (20, 20)).save(tmp_path / name, format="PNG")
    with pytest.raises(ValueError, match=r"is of no format that is read: .nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd, a"):
        load_volume(tmp_path / name)


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"existing file or folder, .*none.nii does not exist"):
        load_volume(str(tmp_path / "none.nii"))
    with pytest.raises(ValueError, match="must hold a DICOM series, it is an empty folder"):
        load_volume(tmp_path)
    write(tmp_path / "scan.mha")
    with pytest.raises(ValueError, match=r"none of its 1 file is readable DICOM, such as scan.mha; .*loaded by its"):
        load_volume(tmp_path)
    with pytest.raises(ValueError, match=r"scan.mha holds one scan; leave series out"):
        load_volume(tmp_path / "scan.mha", series="1.2.3")


def test_a_file_that_is_dicom_by_name_alone_is_refused(tmp_path):
    (tmp_path / "scan.dcm").write_bytes(b"hello")
    with pytest.raises(ValueError, match="is named like DICOM but is none, or was cut short; copy it again"):
        load_volume(tmp_path / "scan.dcm")
