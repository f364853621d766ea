"""What docstrings cite stands on the page they cite."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
CITING = ("vox2vec", "tests", "benchmarks", "examples")


def test_the_method_is_cited_by_sections_that_it_has():
    sections = re.findall(r"^## (\d)\. ", (ROOT / "docs" / "method.md").read_text(encoding="utf-8"), re.MULTILINE)
    cited = []
    for folder in CITING:
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert ("METHOD" + ".md") not in text, f"{path} cites a page that is not in the repository"
            cited += re.findall(r"docs/method\.md sections? (\d)(?: and (\d))?", text)
    assert len(cited) > 10
    assert {number for pair in cited for number in pair if number} <= set(sections)
