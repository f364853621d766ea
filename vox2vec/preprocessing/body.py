"""Where the patient is: the bounding box of the body, and its mask."""

import cc3d
import numpy as np
from jaxtyping import Bool, Shaped

from vox2vec.geometry import Box
from vox2vec.preprocessing.table import patient_alone
from vox2vec.recipe import PAPER
from vox2vec.volume import Volume

_CONTACT_MM = 3.0  # half of the widest bridge between patient and table that is cut
_SIDES = (
    0.25  # of the boundary of air that lies around a patient; of 30 CTs 0.27 to 0.67, of lungs cut open 0.02 to 0.21
)


def body_box(volume: Volume, *, body_hu: float = PAPER.body_hu) -> Box:
    """The bounding box of all voxels of at least `body_hu`; a ValueError where the scan holds none."""
    dense = volume.image >= body_hu
    if not dense.any():
        raise ValueError(
            f"a scan must hold a body, some voxels of at least {body_hu:g} HU; the densest is "
            f"{float(volume.image.max()):g} HU. Is it in HU?"
        )
    return Box.of(dense)


def body_mask(
    image_hu: Shaped[np.ndarray, "x y z"],
    *,
    body_hu: float = PAPER.body_hu,
    table: bool = True,
    spacing_mm: tuple[float, float, float] = PAPER.spacing_mm,
) -> Bool[np.ndarray, "x y z"]:
    """Everything but the air around the patient: lungs and bowel gas are body, and so is the table, as published.

    Air is below `body_hu`; the air that touches (26-connected) a one-voxel rim of air laid around x and y is outside.
    The first and last slices get no rim, so that lungs cut by the scan's end stay inside.

    Args:
        table: False leaves out the table and what else touches the patient by bridges of up to 6 mm.
        spacing_mm: of the image; only for leaving out the table.
    """
    air = np.pad(image_hu < body_hu, ((1, 1), (1, 1), (0, 0)), constant_values=True)
    components = cc3d.connected_components(air, connectivity=26)
    body = np.ascontiguousarray((components != components[0, 0, 0])[1:-1, 1:-1])
    if table:
        return body
    x, y = (max(1, round(_CONTACT_MM / s)) for s in spacing_mm[:2])
    return patient_alone(body, contact_voxels=(x, y))


def with_cut_lungs(body: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """The mask, and the air that only a crop has opened to the outside: a lung that the scan's side cuts.

    Air around the patient lies along the sides of the scan. A piece of air (26-connected) of whose boundary in the
    axial planes less than a quarter is the scan's side is taken to lie within the patient.
    """
    air = cc3d.connected_components(~body, connectivity=26)
    count = int(air.max()) + 1
    at_sides, at_body = np.zeros(count), np.zeros(count)
    for axis in (0, 1):
        layers = np.moveaxis(air, axis, 0)
        at_sides += sum(np.bincount(layers[side].ravel(), minlength=count) for side in (0, -1))
        changes = layers[1:] != layers[:-1]
        at_body += sum(np.bincount(part[changes], minlength=count) for part in (layers[1:], layers[:-1]))
    within = at_sides < _SIDES * (at_sides + at_body)
    within[0] = True  # the body itself
    return np.asarray(within[air])
