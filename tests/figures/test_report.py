"""The report is one file, and text in it stays text."""

import base64
import re

from matplotlib.figure import Figure

from vox2vec.figures.report import Report


def test_blocks_stand_in_order_and_markup_is_escaped(tmp_path):
    report = Report("A < B")
    report.heading("First")
    report.text("<script>")
    report.table(["name", "mm"], [["a & b", "1.5"]])
    report.figure(Figure(), "a picture")
    report.write(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<title>A &lt; B</title>" in text
    assert "<script>" not in text
    assert "<td>a &amp; b</td><td>1.5</td>" in text
    places = [text.index(part) for part in ("First", "&lt;script", "<table>", "a picture")]
    assert places == sorted(places)
    (data,) = re.findall(r"base64,([^\"]+)\"", text)
    assert base64.b64decode(data).startswith(b"\x89PNG")
