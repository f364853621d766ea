"""A scan in HU becomes the network's input."""

import numpy as np

from vox2vec.preprocessing.body import body_box
from vox2vec.preprocessing.intensity import scale_hu
from vox2vec.preprocessing.orientation import canonical
from vox2vec.preprocessing.resampling import is_along_axes, resample
from vox2vec.recipe import PAPER, Recipe
from vox2vec.volume import Volume


def prepare(volume: Volume, recipe: Recipe = PAPER) -> Volume:
    """The network's input: RAS+, cropped to the body, exactly `recipe.spacing_mm`, windowed to [0, 1] as float32.

    The affine is diagonal and exact: a world point is the same place before and after. Oblique and sheared scans
    are turned to the patient's axes by interpolation.

    Args:
        volume: a scan in HU, any orientation.
        recipe: how the backbone's training data were prepared; `backbone.recipe`.

    Raises:
        ValueError: the scan holds NaN, or no voxel of the body.

    Source: docs/method.md section 1; arXiv 2307.14725, section 4.
    """
    resampled = prepare_hu(volume, recipe)
    return Volume(scale_hu(resampled.image, recipe.window_hu), resampled.affine)


def prepare_hu(volume: Volume, recipe: Recipe = PAPER) -> Volume:
    """`prepare` before its last step: still in HU, for what is defined in HU, such as the body mask."""
    if volume.image.dtype.kind == "f" and not np.isfinite(volume.image).all():
        raise ValueError("a scan must hold finite HU, got NaN or infinity; replace them, by -1024 for missing air")
    scan = canonical(volume)
    scan = scan.crop(body_box(scan, body_hu=recipe.body_hu))
    resampled = resample(scan, recipe.spacing_mm)
    if is_along_axes(scan):
        return resampled
    return resampled.crop(body_box(resampled, body_hu=recipe.body_hu))
