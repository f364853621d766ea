"""Lists of points: what 3D Slicer and people write, in one coordinate system."""

import json

import numpy as np
import pytest

from vox2vec.reading.points import Points, read_points, write_points

RAS = [[10.5, -20.25, 300.0], [-1.0, 2.0, 3.0]]
FCSV = """# Markups fiducial file version = 4.13
# CoordinateSystem = {system}
# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID
0,{sign}10.5,{other}20.25,300.0,0,0,0,1,1,1,0,tip,,
1,{other}1,{sign}2,3,0,0,0,1,1,1,0,,,
"""


@pytest.mark.parametrize(("said", "system"), [("RAS", "RAS"), ("0", "RAS"), ("LPS", "LPS"), ("1", "LPS")])
def test_slicers_fcsv_says_its_system(said, system, tmp_path):
    path = tmp_path / "points.fcsv"
    sign, other = ("", "-") if system == "RAS" else ("-", "")
    path.write_text(FCSV.format(system=said, sign=sign, other=other))
    points = read_points(path)
    np.testing.assert_allclose(points.points_mm, RAS)
    assert list(points.names) == ["tip", "2"]
    assert points.system == system


@pytest.mark.parametrize("system", ["RAS", "LPS", None])
def test_slicers_json_says_its_system_and_means_lps_otherwise(system, tmp_path):
    flip = np.array([1, 1, 1]) if system == "RAS" else np.array([-1, -1, 1])
    tip, other = ((np.array(place) * flip).tolist() for place in RAS)
    controls = [{"label": "tip", "position": tip}, {"id": "9", "position": other}]
    markup = {"type": "Fiducial", "controlPoints": controls} | ({"coordinateSystem": system} if system else {})
    (tmp_path / "points.mrk.json").write_text(json.dumps({"markups": [markup]}))
    points = read_points(tmp_path / "points.mrk.json")
    np.testing.assert_allclose(points.points_mm, RAS)
    assert list(points.names) == ["tip", "9"]


@pytest.mark.parametrize("system", [None, "RAS", "LPS"])
def test_a_csv_is_ras_unless_told(system, tmp_path):
    (tmp_path / "points.csv").write_text("Label, X ,Y,Z,note\ntip,10.5,-20.25,300,a\n,-1,2,3,b\n".replace(" X ", "X"))
    points = read_points(tmp_path / "points.csv", system=system)
    np.testing.assert_allclose(points.points_mm, np.array(RAS) * ([-1, -1, 1] if system == "LPS" else 1))
    assert list(points.names) == ["tip", ""]


@pytest.mark.parametrize("name", ["a.csv", "a.fcsv", "a.mrk.json"])
@pytest.mark.parametrize("system", ["RAS", "LPS"])
def test_what_is_written_is_read_back(name, system, tmp_path):
    points = Points(["tip, left", "base"], np.array(RAS), system)
    write_points(points, tmp_path / name, columns={"score": [0.5, 0.25]})
    again = read_points(tmp_path / name)
    np.testing.assert_allclose(again.points_mm, RAS, atol=1e-3)
    assert [n.replace(",", "").split() for n in again.names] == [["tip", "left"], ["base"]]
    assert again.system == system
    assert "0.25" in (tmp_path / name).read_text()


def test_points_without_a_place_are_empty_in_a_csv_and_left_out_of_slicers_files(tmp_path):
    points = Points(["a", "b"], np.array([[1.0, 2, 3], [np.nan] * 3]))
    write_points(points, tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text().splitlines()[2] == "b,,,,RAS"
    write_points(points, tmp_path / "p.mrk.json")
    assert list(read_points(tmp_path / "p.mrk.json").names) == ["a"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.csv", "a,b\n1,2\n", "must name the columns x, y and z"),
        ("p.csv", "x,y,z\n1,2,three\n", "could not convert"),
        ("p.csv", "x,y,z\n", "must hold at least one point"),
        ("p.csv", "name,x,y,z\ntip,1,2,nan\n", "must hold finite coordinates, tip has none"),
        ("p.json", "{", "must be a list of points"),
        ("p.json", '{"markups": [{"coordinateUnits": "um", "controlPoints": []}]}', "its unit must be mm, it is um"),
        ("p.fcsv", "# CoordinateSystem = IJK\n0,1,2,3\n", "must be a list of points"),
        ("p.txt", "1 2 3", "must end in .csv, .fcsv or .json"),
    ],
)
def test_what_is_no_list_of_points_is_refused(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_points(tmp_path / name)


def test_a_file_that_says_its_system_is_not_overruled(tmp_path):
    path = tmp_path / "points.fcsv"
    path.write_text(FCSV.format(system="LPS", sign="-", other=""))
    with pytest.raises(ValueError, match="says that it is in LPS; leave RAS out"):
        read_points(path, system="RAS")
    with pytest.raises(FileNotFoundError, match="there are no points at"):
        read_points(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match=r"written as \.csv, \.fcsv or \.mrk\.json"):
        write_points(Points(["a"], np.zeros((1, 3))), tmp_path / "p.txt")


def test_a_csv_tells_radii_of_lesions(tmp_path):
    path = tmp_path / "lesions.csv"
    path.write_text("name,x,y,z,Radius\nliver,1,2,3,12.5\nnode,4,5,6,\n")
    np.testing.assert_array_equal(read_points(path).radius_mm, [12.5, np.nan])
    path.write_text("name,x,y,z\nliver,1,2,3\n")
    assert read_points(path).radius_mm is None
    path.write_text("name,x,y,z,radius_mm\nliver,1,2,3,0\n")
    with pytest.raises(ValueError, match="radius must be millimetres above 0, or left empty, it is 0"):
        read_points(path)
