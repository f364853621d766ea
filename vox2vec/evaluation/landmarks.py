"""Landmarks of one synthetic patient found in another: by networks, and by correlation of patches."""

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
from jaxtyping import Float64

from vox2vec.data.phantom import Phantom
from vox2vec.inference.embed import Embedder
from vox2vec.matching.alone import match_alone
from vox2vec.matching.correlation import correlate
from vox2vec.matching.index import Index
from vox2vec.matching.landmarks import match
from vox2vec.nn.fpn import FPN3d
from vox2vec.preprocessing.body import body_mask
from vox2vec.preprocessing.intensity import scale_hu
from vox2vec.preprocessing.prepare import prepare_hu
from vox2vec.recipe import Recipe
from vox2vec.volume import Volume

CORRELATION_RADII_MM = (16.0, 32.0, 48.0)


def landmark_errors(
    patients: Sequence[Phantom], networks: Mapping[str, FPN3d], recipe: Recipe
) -> dict[str, Float64[np.ndarray, " v"]]:
    """For each way of finding them, the errors in mm of all landmarks over all ordered pairs of patients.

    Networks find them point by point, and by the field between the scans. All ways search the same voxels, those of the
    body. Infinite where nothing was found: a flat patch correlates with
    nothing.
    """
    places = [np.array(list(patient.landmarks.values())) for patient in patients]
    pairs = list(permutations(range(len(patients)), 2))
    true = np.concatenate([places[b] for _, b in pairs])
    scans = [prepare_hu(patient.volume, recipe) for patient in patients]
    bodies = [body_mask(scan.image, body_hu=recipe.body_hu) for scan in scans]
    found: dict[str, list[np.ndarray]] = {}
    for name, network in networks.items():
        embedder = Embedder(network, progress=False)
        indices = [Index.of(embedder(patient.volume), average=True) for patient in patients]
        found[name] = [match_alone(indices[a], places[a], indices[b]).points_mm for a, b in pairs]
        found[f"{name}, by the field"] = [match(indices[a], places[a], indices[b]).points_mm for a, b in pairs]
    windowed = [Volume(scale_hu(scan.image, recipe.window_hu), scan.affine) for scan in scans]
    for radius in CORRELATION_RADII_MM:
        found[f"correlation, radius {radius:g} mm"] = [
            correlate(windowed[a], places[a], windowed[b], radius_mm=radius, among=bodies[b])[0] for a, b in pairs
        ]
    off_mm = {way: np.linalg.norm(np.concatenate(points) - true, axis=1) for way, points in found.items()}
    return {way: np.nan_to_num(errors, nan=np.inf) for way, errors in off_mm.items()}


def landmark_table(
    errors: Mapping[str, Float64[np.ndarray, " v"]], *, within_mm: float
) -> tuple[list[str], list[list[str]]]:
    """Header and rows: median error, 95 % of errors, and the share within `within_mm`."""
    header = ["landmarks between patients", "median error", "95 % of errors below", f"within {within_mm:g} mm"]
    rows = []
    for way, off_mm in errors.items():
        quantiles = np.quantile(off_mm, (0.5, 0.95), method="lower")  # no mean of a distance and infinity
        cells = [f"{q:.1f} mm" if np.isfinite(q) else "not found" for q in quantiles]
        rows.append([way, *cells, f"{(off_mm <= within_mm).mean():.0%}"])
    return header, rows
