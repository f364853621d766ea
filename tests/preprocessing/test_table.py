"""The body without the table: the patient whole, the table gone, whatever the spacing."""

import numpy as np
import pytest

from vox2vec.data.phantom import phantom
from vox2vec.preprocessing.body import body_mask


def _patient(spacing_mm):
    """HU of an elliptic patient with a thin-walled lung, and a table below: a hard shell over light foam."""
    x, y, z = (int(s) for s in np.round(np.array([300, 260, 40]) / spacing_mm))
    wx, wy, _ = np.meshgrid(
        *((np.arange(n) + 0.5) * s for n, s in zip((x, y, z), spacing_mm, strict=True)), indexing="ij"
    )
    hu = np.full((x, y, z), -1000, np.int16)
    torso = ((wx - 140) / 110) ** 2 + ((wy - 150) / 85) ** 2 < 1
    lung = ((wx - 100) / 50) ** 2 + ((wy - 150) / 55) ** 2 < 1
    bottom, shell = 60, max(3, *spacing_mm[:2])
    table = (np.abs(wx - 150) < 130) & (wy > bottom - 35) & (wy <= bottom)
    foam = (np.abs(wx - 150) < 130 - shell) & (wy > bottom - 35 + shell) & (wy < bottom - shell)
    hu[table] = 100
    hu[foam] = -900
    hu[torso] = 40
    hu[(np.abs(wx - 140) < 2) & (wy > 50) & (wy < 80)] = 40  # a cable bridges the gap
    hu[torso & lung] = -850
    return hu, torso, table & ~torso


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 2.0), (2.0, 2.0, 4.0), (4.0, 4.0, 3.0)])
def test_the_patient_stays_and_the_table_goes(spacing_mm):
    hu, torso, table = _patient(spacing_mm)
    published = body_mask(hu)
    assert published[torso].all()
    assert published[table].mean() > 0.99  # foam and all
    alone = body_mask(hu, table=False, spacing_mm=spacing_mm)
    assert alone[torso].mean() > 0.995
    assert alone[table].mean() < 0.15
    assert not (alone & ~published).any()


def test_the_phantoms_table_goes_and_its_patient_stays():
    patient = phantom(0, spacing_mm=(2, 2, 6))
    with_table = body_mask(patient.volume.image)
    alone = body_mask(patient.volume.image, table=False, spacing_mm=(2, 2, 6))
    assert alone[patient.labels.image > 0].all()
    back = patient.volume.to_mm(np.argwhere(with_table & ~alone))[:, 1]
    assert (back < -90).mean() > 0.95  # behind the patient
    assert 0.005 < 1 - alone.sum() / with_table.sum() < 0.1


def test_what_is_too_thin_everywhere_is_kept():
    """A wire in air: nothing survives the wearing, so nothing is taken for table."""
    hu = np.full((40, 40, 6), -1000, np.int16)
    hu[10:12, 10:30] = 40
    np.testing.assert_array_equal(body_mask(hu, table=False), body_mask(hu))
