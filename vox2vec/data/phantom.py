"""A synthetic torso: organs, lungs, spine, table and air, another patient for each seed, on any grid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from nibabel.orientations import axcodes2ornt, inv_ornt_aff
from scipy.ndimage import gaussian_filter, map_coordinates

from vox2vec.volume import Volume

# The atlas, in millimetres as RAS+: x grows to the patient's right, y to the front, z to the head.
_HALF_SIZE = np.array([180.0, 125.0, 210.0])  # of the scanned box
_FLEXIBILITY_MM = 6.0  # of the smooth deformation that makes another patient

Place = tuple[float, float, float]
Inside = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Phantom:
    """A synthetic patient.

    Attributes:
        volume: CT in HU, int16.
        labels: uint8 on the same grid, the numbers of `BTCV_ORGANS` (data/sources/structures.py); 0 elsewhere.
        landmarks: names to world millimetres (3,), RAS+; where the anatomy puts them, whatever the grid.
    """

    volume: Volume
    labels: Volume
    landmarks: dict[str, np.ndarray]


def phantom(
    seed: int = 0,
    *,
    spacing_mm: Sequence[float] = (2.0, 2.0, 3.0),
    axis_codes: str = "RAS",
    rotation_deg: float = 0.0,
) -> Phantom:
    """The synthetic patient `seed` on a grid of the given spacing and orientation.

    Sizes, places, HU, noise and a smooth deformation are drawn from the seed; the same seed on another grid is the
    same patient at the same place in the world.

    Args:
        spacing_mm: voxel size along the patient's right, anterior, superior.
        axis_codes: where the stored axes point, such as "LPS" or "PIR".
        rotation_deg: turns the grid (not the patient) around the long axis, for an oblique scan.
    """
    patient = _Patient(np.random.default_rng([seed, 2307]))
    volume_grid = _grid(spacing_mm, axis_codes, rotation_deg)
    image, labels = np.empty(volume_grid.shape, np.int16), np.empty(volume_grid.shape, np.uint8)
    for i in range(volume_grid.shape[0]):  # slab by slab: the coordinates of a whole volume are large
        index = np.moveaxis(np.indices((1, *volume_grid.shape[1:])), 0, -1)[0]
        index[..., 0] = i
        hu, label = patient.at(volume_grid.to_mm(index))
        image[i], labels[i] = hu.round(), label
    noise = np.random.default_rng([seed, 14725]).normal(0, patient.noise_hu, image.shape)
    textured = image + 1.5 * gaussian_filter(noise, 0.6)
    image = textured.round().clip(-1024, 3071).astype(np.int16)
    landmarks = {name: patient.world(np.array(place, dtype=np.float64)) for name, place in patient.landmarks.items()}
    return Phantom(Volume(image, volume_grid.affine), Volume(labels, volume_grid.affine), landmarks)


def _grid(spacing_mm: Sequence[float], axis_codes: str, rotation_deg: float) -> Volume:
    """An empty volume over the scanned box."""
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape != (3,) or not (spacing > 0).all():
        raise ValueError(f"spacing_mm must be three positive numbers of millimetres, got {tuple(spacing_mm)}")
    if sorted(_AXES.get(c, -1) for c in axis_codes) != [0, 1, 2]:
        raise ValueError(
            f'axis_codes must name right or left, anterior or posterior, ..., as "RAS"; got {axis_codes!r}'
        )
    x, y, z = np.ceil(2 * _HALF_SIZE / spacing).astype(int).tolist()
    turn = np.deg2rad(rotation_deg)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(spacing)
    affine[:3, 3] = -affine[:3, :3] @ (np.array([x, y, z]) - 1) / 2
    ornt = axcodes2ornt(axis_codes)  # for each stored axis the patient's axis, and its direction
    stored_shape = np.array([x, y, z])[ornt[:, 0].astype(int)]
    to_canonical = inv_ornt_aff(ornt, tuple(stored_shape))
    return Volume(np.broadcast_to(np.uint8(0), stored_shape), affine @ np.linalg.inv(to_canonical))


_AXES = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}


class _Patient:
    """One anatomy: where each organ is in the atlas, its HU, and the deformation from world to atlas."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.noise_hu = rng.uniform(8, 25)
        self.scale = rng.uniform(0.92, 1.08, 3)
        self.shift = rng.uniform(-6, 6, 3)
        self.field = gaussian_filter(rng.normal(size=(3, 9, 9, 9)), (0, 1, 1, 1), mode="nearest")
        self.field *= _FLEXIBILITY_MM / np.abs(self.field).max()
        self.enhancement = rng.uniform(0.6, 1.4)
        self.hu_offset = rng.normal(0, 6, 20)
        self.fat_mm = rng.uniform(8, 22)
        self.landmarks = _LANDMARKS
        self.vessel_phase = rng.uniform(0, 2 * np.pi, (6, 3))

    def atlas(self, world: Float[np.ndarray, "*v 3"]) -> Float[np.ndarray, "*v 3"]:
        """Where in the atlas a place in the world lies."""
        flat = (world - self.shift) / self.scale
        places = ((flat / (_HALF_SIZE * 1.3) + 1) / 2 * 8).reshape(-1, 3).T
        moved = [map_coordinates(f, places, order=1, mode="nearest").reshape(flat.shape[:-1]) for f in self.field]
        return flat + np.moveaxis(np.array(moved), 0, -1)

    def world(self, place: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
        """Where in the world a place of the atlas lies: `atlas` inverted by fixed-point iteration."""
        flat = place.copy()
        for _ in range(60):
            flat += 0.7 * (place - self.atlas(flat * self.scale + self.shift))
        return flat * self.scale + self.shift

    def at(self, world: Float[np.ndarray, "*v 3"]) -> tuple[np.ndarray, np.ndarray]:
        """HU and label at places in the world."""
        p = self.atlas(world)
        x, y, z = np.moveaxis(p, -1, 0)
        hu = np.full(x.shape, -1000.0)
        label = np.zeros(x.shape, np.uint8)
        wx, wy = world[..., 0], world[..., 1]  # the table does not deform
        table = (np.abs(wy + 0.0006 * wx**2 + 117) < 4) & (np.abs(wx) < 165)
        hu[table] = np.where(np.abs(wy + 0.0006 * wx**2 + 117) > 2.5, 250, -850)[table]
        outline = np.sqrt((x / 152) ** 2 + (y / (100 + 8 * np.cos(z / 120))) ** 2)
        skin = outline < 1
        hu[skin] = 20
        hu[outline < 0.985] = -100
        muscle = outline < 1 - self.fat_mm / 120
        hu[muscle] = 55 + self.hu_offset[0]
        hu[(outline < 0.72) & (z < 60)] = -95  # fat around the bowels
        self._bowels(hu, p, (outline < 0.66) & (z < -40) & (y > -35))
        self._ribs(hu, p, outline)
        for side, heart in ((1, 0.0), (-1, 28.0)):
            lung = (np.abs((x - side * (78 - heart / 4)) / (52 - heart / 6)) ** 2.2 + np.abs(y / 74) ** 2.2) ** 0.5
            inside = (lung < 1) & (z > 38 + 30 * (1 - lung) + 9 * side) & (z < 190 - 25 * lung**2)
            hu[inside] = -850 + 60 * (y[inside] < -30) + self._lung_vessels(p[inside])
        _fill(hu, _ellipsoid(p, (-28, 22, 85), (48, 42, 46)), 45 + 110 * self.enhancement)
        _fill(hu, _tube(p, [(0, 0, 210), (0, 0, 125)], 9), -1000)
        for side in (1, -1):
            _fill(hu, _tube(p, [(0, 0, 125), (side * 48, 2, 98)], 6), -1000)
        self._spine(hu, p)
        for number, (inside, plain, contrast) in _ORGANS.items():
            chosen = inside(p)
            hu[chosen] = plain + contrast * self.enhancement + self.hu_offset[number]
            label[chosen] = number
        gas = _ellipsoid(p, (-58, 45, 20), (16, 8, 14))
        hu[gas & (label == 7)] = -950
        return hu, label

    def _lung_vessels(self, p: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, " v"]:
        """Bright lines where two waves cross."""
        total = np.zeros(len(p))
        for phase in self.vessel_phase:
            direction = np.cos(phase + np.arange(3) * 2)
            total += np.sin(p @ direction / 9 + phase[0])
        return np.where(np.abs(total) < 0.18, 700.0, 0.0)

    def _bowels(self, hu: np.ndarray, p: np.ndarray, where: np.ndarray) -> None:
        waves = sum(np.sin(p[where] @ np.cos(phase + np.arange(3)) / 11 + phase[1]) for phase in self.vessel_phase)
        hu[where] = np.select([waves > 1.6, waves > 0.2], [-600, 30], -95)

    @staticmethod
    def _ribs(hu: np.ndarray, p: np.ndarray, outline: np.ndarray) -> None:
        x, y, z = np.moveaxis(p, -1, 0)
        height = (z - 0.35 * y) % 26
        ribs = (np.abs(outline - 0.8) < 0.035) & (height < 10) & (z > 5) & (z < 195)
        hu[ribs & ~((y > 55) & (np.abs(x) < 25))] = 450
        hu[(np.abs(x) < 16) & (np.abs(outline - 0.82) < 0.05) & (y > 0) & (z > 45)] = 300

    @staticmethod
    def _spine(hu: np.ndarray, p: np.ndarray) -> None:
        x, y, z = np.moveaxis(p, -1, 0)
        centre = y + 62
        body = (x / 23) ** 2 + (centre / 17) ** 2
        disc = (z % 31) < 7
        hu[body < 1] = np.where(disc, 90, np.where(body > 0.75, 420, 190))[body < 1]
        arch = (x / 14) ** 2 + ((y + 88) / 14) ** 2
        hu[(arch < 1) & ~disc] = 380
        hu[((np.abs(x) < 4) & (y < -88) & (y > -114) | (np.abs(y + 86) < 5) & (np.abs(x) < 34)) & (z % 31 > 15)] = 380
        hu[(x / 8) ** 2 + ((y + 86) / 8) ** 2 < 1] = 35


def _fill(hu: np.ndarray, inside: np.ndarray, value: float) -> None:
    hu[inside] = value


def _ellipsoid(p: np.ndarray, centre: Place, half_axes: Place) -> np.ndarray:
    return (((p - np.array(centre)) / np.array(half_axes)) ** 2).sum(axis=-1) < 1


def _tube(p: np.ndarray, path: Sequence[Place], radius: float) -> np.ndarray:
    """Everything within `radius` of the path's straight pieces."""
    inside = np.zeros(p.shape[:-1], bool)
    for start, stop in pairwise(np.array(path, dtype=np.float64)):
        along = stop - start
        share = (((p - start) @ along) / (along @ along)).clip(0, 1)
        inside |= ((p - start - share[..., None] * along) ** 2).sum(axis=-1) < radius**2
    return inside


def _liver(p: np.ndarray) -> np.ndarray:
    right = _ellipsoid(p, (72, 6, 8), (68, 78, 72))
    left = _ellipsoid(p, (8, 48, 26), (72, 28, 30))
    return (right | left) & (p[..., 2] < 62)


# Painted in this order: name's number -> (inside, plain HU, contrast HU).
_ORGANS: dict[int, tuple[Inside, float, float]] = {
    6: (_liver, 60, 55),
    7: (lambda p: _ellipsoid(p, (-62, 28, 14), (36, 34, 42)) | _tube(p, [(-52, 36, -14), (-6, 40, -34)], 17), 25, 15),
    1: (lambda p: _ellipsoid(p, (-104, -36, 22), (28, 42, 46)), 50, 75),
    2: (lambda p: _ellipsoid(p, (56, -52, -62), (27, 25, 52)), 35, 150),
    3: (lambda p: _ellipsoid(p, (-58, -54, -46), (26, 24, 54)), 35, 150),
    5: (lambda p: _tube(p, [(-3, -32, 205), (-6, -30, 90), (-24, -14, 44)], 9), 40, 15),
    11: (lambda p: _tube(p, [(38, 22, -42), (8, 22, -26), (-40, -6, -12), (-76, -24, 2)], 12), 40, 60),
    4: (lambda p: _ellipsoid(p, (52, 58, -38), (15, 26, 19)), 10, 0),
    10: (lambda p: _tube(p, [(40, 8, 6), (14, 10, -16), (-40, -16, -2), (-78, -30, 10)], 6.5), 45, 125),
    8: (lambda p: _tube(p, [(-22, -34, 130), (-16, -36, 40), (-6, -34, -130), (-6, -34, -210)], 12), 45, 190),
    9: (lambda p: _tube(p, [(26, -22, 62), (20, -30, -40), (18, -32, -210)], 12), 40, 100),
    12: (lambda p: _tube(p, [(34, -46, 6), (42, -54, -2), (34, -58, -8)], 5), 35, 45),
    13: (lambda p: _tube(p, [(-32, -42, 12), (-40, -52, 4), (-30, -54, -4)], 5), 35, 45),
}

_LANDMARKS: dict[str, Place] = {
    "carina": (0, 0, 121),
    "liver": (78, 4, 10),
    "spleen": (-104, -36, 22),
    "gallbladder": (52, 58, -38),
    "right kidney": (56, -52, -62),
    "left kidney": (-58, -54, -46),
    "right kidney upper pole": (56, -52, -14),
    "left kidney lower pole": (-58, -54, -96),
    "stomach": (-62, 22, 0),
    "heart": (-28, 22, 85),
    "aorta at the diaphragm": (-16, -36, 40),
    "inferior vena cava": (20, -30, -40),
    "right adrenal gland": (42, -54, -2),
    "left adrenal gland": (-40, -52, 4),
    "pancreatic head": (38, 22, -42),
    "vertebra": (0, -62, 19.0),
    "upper vertebra": (0, -62, 143.0),
    "lower vertebra": (0, -62, -105.0),
}
