"""Any CT data set that amid (extra `[amid]`) reads, by name."""

import configparser
import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from vox2vec.data.sources.source import LeftOut
from vox2vec.reading.labels import label_volume
from vox2vec.reading.sitk_image import LPS_TO_RAS
from vox2vec.reading.values import hu_volume
from vox2vec.volume import Volume


@dataclass(frozen=True)
class AmidSet:
    """The set `name` of amid at `root`; made by `amid_set`. It pickles: each process opens amid anew."""

    name: str
    root: Path
    ids: Sequence[str]
    left_out: Sequence[LeftOut]
    label_names: Mapping[int, str]

    def load(self, id: str) -> Volume:
        dataset, where = _opened(self.name, self.root), self.path(id)
        image = dataset.image(id)
        if image is None:
            raise ValueError(f"{where}: amid has no image of it, it is damaged in the archive")
        if np.issubdtype(np.asarray(image).dtype, np.floating):
            image = np.asarray(image, dtype=np.float32)
        return hu_volume(np.array(image), _affine(dataset, id, where), name=where)

    def labels(self, id: str) -> Volume | None:
        dataset, where = _opened(self.name, self.root), self.path(id)
        mask = dataset.mask(id) if _has(dataset, "mask") else None
        if mask is None:
            return None
        return label_volume(np.asarray(mask), _affine(dataset, id, where), name=where)

    def path(self, id: str) -> str:
        return f"{self.name}:{id} in {self.root}"

    def only(self, id: str) -> "AmidSet":
        return self

    def identity(self, id: str, *, labels: bool = False) -> str:
        """By amid's version and id: amid does not tell which files it reads."""
        return f"amid {_amid().__version__} {self.root.resolve()} {self.name} {id}"


def amid_set(name: str, root: Path) -> AmidSet:
    """Open amid's data set `name` (such as KiTS23, LiTS, Totalsegmentator) at `root`.

    Raises:
        ValueError: amid is not installed, knows no CT set of that name, or finds none of it at `root`.
    """
    if not root.is_dir():
        raise ValueError(f"the root of amid's {name} must be a folder, {root} is none")
    known = _known()
    if name not in known:
        raise ValueError(f"amid has no CT data set {name!r}; it has {', '.join(sorted(known))}")
    try:
        dataset = _opened(name, root)
        ids = [str(id) for id in dataset.ids]
        modality = {id: dataset.image_modality(id) if _has(dataset, "image_modality") else "CT" for id in ids}
    except Exception as error:
        raise ValueError(f"amid cannot open {name} at {root}: {type(error).__name__}: {error}") from error
    left_out = [LeftOut(id, f"{modality[id]}, not CT") for id in ids if "CT" not in str(modality[id])]
    kept = sorted(set(ids) - {item.path for item in left_out})
    if not kept:
        raise ValueError(f"amid finds no CT of {name} at {root}")
    return AmidSet(name, root, kept, left_out, {})


def _affine(dataset: Any, id: str, where: str) -> np.ndarray:
    """To RAS millimetres, from whichever geometry amid has for this set; a ValueError where it has none."""
    if _has(dataset, "affine"):
        return np.asarray(dataset.affine(id), dtype=np.float64)
    if _has(dataset, "orientation_matrix", "pixel_spacing", "slice_locations"):
        try:
            return _dicom_affine(dataset, id)
        except TypeError:  # NLST of amid 0.14 and 0.15
            pass
    if not _has(dataset, "spacing"):
        raise ValueError(f"{where}: amid tells neither affine nor spacing of it; read it from its files (--data_dir)")
    warnings.warn(
        f"{where}: amid tells the spacing alone, assumed axes left, posterior, superior", UserWarning, stacklevel=3
    )
    return LPS_TO_RAS @ np.diag([*map(float, np.ravel(dataset.spacing(id))), 1.0])


def _dicom_affine(dataset: Any, id: str) -> np.ndarray:
    """amid stacks (row, column, slice) for these sets: its first axis runs along DICOM's column direction."""
    along_row, along_column, normal = np.asarray(dataset.orientation_matrix(id), dtype=np.float64)
    between_rows, between_columns = map(float, dataset.pixel_spacing(id))
    places = np.asarray(dataset.slice_locations(id), dtype=np.float64)
    step = (places[-1] - places[0]) / (len(places) - 1)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([along_column * between_rows, along_row * between_columns, normal * step], axis=1)
    affine[:3, 3] = normal * places[0]
    return LPS_TO_RAS @ affine


def _has(dataset: Any, *fields: str) -> bool:
    """Asked of the class: on the object, connectome recurses for ever."""
    return all(hasattr(type(dataset), field) for field in fields)


@cache
def _opened(name: str, root: Path) -> Any:
    return _known()[name](str(root))


@cache
def _known() -> dict[str, Any]:
    """amid's data sets whose modalities include CT."""
    _amid()
    registry = importlib.import_module("amid.internals").gather_datasets()
    return {name: cls for name, (cls, _, about) in registry.items() if "CT" in str(about.modality)}


@cache
def _amid() -> Any:
    """amid 0.15, which today's setuptools, Python and connectome break at import; mended around it, then undone."""
    stub = types.ModuleType("pkg_resources")
    stub.__dict__["resource_filename"] = _resource_filename
    missing = object()
    before = sys.modules.get("pkg_resources", missing)
    if importlib.util.find_spec("pkg_resources") is None:
        sys.modules["pkg_resources"] = stub
    if not hasattr(configparser, "SafeConfigParser"):  # gone in Python 3.12; pylidc asks for it
        configparser.__dict__["SafeConfigParser"] = configparser.ConfigParser
    try:
        _silence_connectome()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("amid")
    except ImportError as error:
        raise ValueError(f"amid's data sets need amid: pip install 'vox2vec[amid]' ({error})") from error
    finally:
        if before is missing:
            sys.modules.pop("pkg_resources", None)


def _resource_filename(package: str, resource: str) -> str:
    module = importlib.import_module(package)
    return str(Path(str(module.__file__)).parent / resource)


def _silence_connectome() -> None:
    """Python 3.13 gives classes two more attributes, which connectome would refuse."""
    factory: Any = importlib.import_module("connectome.interface.factory")
    for names in (factory.SILENT_MAGIC, factory.OVERRIDABLE_MAGIC):
        names.update({"__firstlineno__", "__static_attributes__"})
