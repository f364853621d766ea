"""Lists of named points, in RAS+ millimetres whatever the file says: CSV, and 3D Slicer's .fcsv and .mrk.json."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

System = Literal["RAS", "LPS"]

_FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
_FCSV_SYSTEMS: Mapping[str, System] = {"RAS": "RAS", "0": "RAS", "LPS": "LPS", "1": "LPS"}
_RADII = ("radius", "radius_mm")
_NAMES = ("name", "label", "id")  # columns of a CSV that may name its points, by preference
_SCHEMA = "https://raw.githubusercontent.com/Slicer/Slicer/main/Modules/Loadable/Markups/Resources/Schema/"
_LPS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Points:
    """Named points.

    Attributes:
        names: one a point.
        points_mm: RAS+ millimetres.
        system: what the file they came from is written in.
        radius_mm: of lesions, for example; NaN where one has none.
    """

    names: Sequence[str]
    points_mm: Float64[np.ndarray, "v 3"]
    system: System = "RAS"
    radius_mm: Float64[np.ndarray, " v"] | None = None


def read_points(path: str | PathLike[str], *, system: System | None = None) -> Points:
    """Read a .csv with columns x, y, z (and name, label or id, and radius), or 3D Slicer's .fcsv, .mrk.json or .json.

    Args:
        system: of a CSV without a column "system": RAS by default. Slicer's files say theirs.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another format, no points, coordinates that are no numbers, a radius that is none above 0, or a
            `system` that contradicts the file.

    Source: https://slicer.readthedocs.io/en/latest/developer_guide/modules/markups.html.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there are no points at {path}")
    said: System | None
    radii: list[float] | None = None
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".fcsv":
            names, places, said = _fcsv(text)
        elif path.suffix.lower() == ".json":
            names, places, said = _markups(text)
        elif path.suffix.lower() == ".csv":
            names, places, said, radii = _csv(text)
        else:
            raise ValueError("its name must end in .csv, .fcsv or .json")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"{path} must be a list of points (x, y, z in millimetres), it is not: {error}") from error
    if said is not None and system is not None and said != system:
        raise ValueError(f"{path} says that it is in {said}; leave {system} out")
    found = np.array(places, dtype=np.float64).reshape(-1, 3)
    if not len(found):
        raise ValueError(f"{path} must hold at least one point, it holds none")
    if not np.isfinite(found).all():
        worst = names[int(np.isfinite(found).all(axis=1).argmin())]
        raise ValueError(f"{path} must hold finite coordinates, {worst} has none")
    written: System = said or system or "RAS"
    radius_mm = None if radii is None else np.array(radii)
    return Points(names, found * _LPS if written == "LPS" else found, written, radius_mm)


def write_points(
    points: Points, path: str | PathLike[str], *, columns: Mapping[str, Sequence[Any]] | None = None
) -> None:
    """Write .csv, .fcsv or .mrk.json, by the name's end; points with NaN are left out of Slicer's files.

    Args:
        points: CSV and Slicer's files are written in `points.system`, which Slicer's say, and a CSV's column "system".
        columns: further columns of a CSV; Slicer's files take them as descriptions.
    """
    path, columns = Path(path), columns or {}
    places = points.points_mm * _LPS if points.system == "LPS" else points.points_mm
    rows = list(zip(points.names, places.tolist(), *columns.values(), strict=True))
    partial = path.with_name(path.name + ".partial")
    if path.suffix.lower() == ".csv":
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["name", "x", "y", "z", "system", *columns])
            for name, (x, y, z), *rest in rows:
                told = ["" if np.isnan(value) else f"{value:.3f}" for value in (x, y, z)]
                writer.writerow([name, *told, points.system, *rest])
        partial.replace(path)
        return
    described = [
        (name, place, "; ".join(f"{column} {value}" for column, value in zip(columns, rest, strict=True)))
        for name, place, *rest in rows
        if np.isfinite(place).all()
    ]
    if path.suffix.lower() == ".fcsv":
        lines = ["# Markups fiducial file version = 4.11", f"# CoordinateSystem = {points.system}"]
        lines.append(f"# columns = {_FCSV_COLUMNS}")
        for i, (name, (x, y, z), text) in enumerate(described):
            label, text = name.replace(",", " "), text.replace(",", " ")
            lines.append(f"{i + 1},{x:.3f},{y:.3f},{z:.3f},0,0,0,1,1,1,0,{label},{text},")
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif path.suffix.lower() == ".json":
        controls = [
            {"id": str(i + 1), "label": name, "description": text, "position": place}
            for i, (name, place, text) in enumerate(described)
        ]
        markup = {"type": "Fiducial", "coordinateSystem": points.system, "controlPoints": controls}
        fields = {"@schema": f"{_SCHEMA}markups-schema-v1.0.0.json#", "markups": [markup]}
        partial.write_text(json.dumps(fields, indent=1), encoding="utf-8")
    else:
        raise ValueError(f"points are written as .csv, .fcsv or .mrk.json, got {path.name}")
    partial.replace(path)


def _csv(text: str) -> tuple[list[str], list[list[float]], System | None, list[float] | None]:
    reader = csv.DictReader(text.splitlines())
    columns = {name.strip().lower(): name for name in reader.fieldnames or ()}
    if not {"x", "y", "z"} <= set(columns):
        raise ValueError(f"its first line must name the columns x, y and z, it names {list(columns)}")
    naming = next((columns[name] for name in _NAMES if name in columns), None)
    rows = list(reader)
    names = [row[naming] if naming else str(i + 1) for i, row in enumerate(rows)]
    systems = {_FCSV_SYSTEMS[row[columns["system"]]] for row in rows} if "system" in columns else set()
    if len(systems) > 1:
        raise ValueError("its points must share one coordinate system, they have both")
    sized = next((columns[name] for name in _RADII if name in columns), None)
    radii = None if sized is None else [float(row[sized] or "nan") for row in rows]
    if wrong := [radius for radius in radii or () if radius <= 0 or radius == np.inf]:
        raise ValueError(f"a radius must be millimetres above 0, or left empty, it is {wrong[0]:g}")
    places = [[float(row[columns[axis]]) for axis in "xyz"] for row in rows]
    return names, places, next(iter(systems), None), radii


def _fcsv(text: str) -> tuple[list[str], list[list[float]], System]:
    lines = (line.lstrip("# ").partition("=") for line in text.splitlines() if line.startswith("#"))
    header = {name.strip(): value.strip() for name, _, value in lines}
    system = _FCSV_SYSTEMS[header.get("CoordinateSystem", "RAS")]
    columns = [column.strip() for column in header.get("columns", _FCSV_COLUMNS).split(",")]
    rows = [row for row in csv.reader(text.splitlines()) if row and not row[0].startswith("#")]
    places = [[float(row[columns.index(axis)]) for axis in "xyz"] for row in rows]
    label = columns.index("label") if "label" in columns else 0
    return [row[label] or str(i + 1) for i, row in enumerate(rows)], places, system


def _markups(text: str) -> tuple[list[str], list[list[float]], System]:
    names: list[str] = []
    places: list[list[float]] = []
    systems: set[System] = set()
    for markup in json.loads(text)["markups"]:
        if markup.get("coordinateUnits", "mm") != "mm":
            raise ValueError(f"its unit must be mm, it is {markup['coordinateUnits']}")
        systems.add(_FCSV_SYSTEMS[str(markup.get("coordinateSystem", "LPS"))])
        for control in markup["controlPoints"]:
            names.append(str(control.get("label") or control.get("id") or len(names) + 1))
            places.append([float(value) for value in control["position"]])
    if len(systems) > 1:
        raise ValueError("its markups must share one coordinate system, they have both")
    return names, places, systems.pop() if systems else "LPS"
