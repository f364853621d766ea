"""Whole-volume features of real CTs (skipped where ../shared is absent)."""

import zipfile

import numpy as np
import torch

from tests.inference.scans import tiny_backbone
from vox2vec.inference.embed import embed
from vox2vec.reading.load import load_volume


def test_a_dicom_series_and_the_nifti_made_from_it_give_the_same_embedding(shared, tmp_path):
    with zipfile.ZipFile(shared / "data" / "dicom" / "CRLM-CT-1004.zip") as archive:
        for name in archive.namelist():
            if name.endswith(".dcm"):
                (tmp_path / name.rsplit("/", 1)[1]).write_bytes(archive.read(name))
    series = load_volume(tmp_path)
    series.save(tmp_path / "scan.nii.gz")
    backbone = tiny_backbone((32, 32, 32), spacing_mm=(3.0, 3.0, 4.0))
    one = embed(series, backbone, precision="32", device="cpu", progress=False)
    other = embed(tmp_path / "scan.nii.gz", backbone, precision="32", device="cpu", progress=False)
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-3)
    for a, b in zip(one.pyramid, other.pyramid, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-3)


def test_landmarks_in_a_lung_that_a_crop_cuts_open_lie_in_the_body(shared):
    pair = shared / "data" / "pairs"
    landmarks = np.loadtxt(pair / "lung_landmarks_LPS.csv", delimiter=",", skiprows=1, usecols=(0, 1, 2)) * (-1, -1, 1)
    backbone = tiny_backbone((32, 32, 32), spacing_mm=(3.0, 3.0, 3.0))
    lung = embed(pair / "lung_baseline.mha", backbone, precision="32", device="cpu", progress=False)
    assert lung.in_body(landmarks).all()
    assert not lung.body[-1, -1].any(), "the air beside the chest is none"
