"""One HTML file that holds text, tables and pictures, to open anywhere and send on."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

_STYLE = """
body { background: #111; color: #eee; font: 16px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 } th, td { border-bottom: 1px solid #555; padding: .3rem .9rem }
td { text-align: right } td:first-child, th:first-child { text-align: left } img { max-width: 100% }
code { background: #222; padding: .1rem .3rem } figcaption { color: #bbb } figure { margin: 1.5rem 0 }
"""


class Report:
    """Blocks in the order they are added."""

    def __init__(self, title: str) -> None:
        self._title = html.escape(title)
        self._blocks: list[str] = []

    def heading(self, text: str) -> None:
        self._blocks.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        self._blocks.append(f"<p>{html.escape(text)}</p>")

    def code(self, text: str) -> None:
        self._blocks.append(f"<p><code>{html.escape(text)}</code></p>")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        self._blocks.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")

    def figure(self, figure: Figure, caption: str) -> None:
        """The picture stands in the file itself."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        data, told = base64.b64encode(buffer.getvalue()).decode(), html.escape(caption)
        self._blocks.append(
            f'<figure><img src="data:image/png;base64,{data}" alt="{told}"><figcaption>{told}</figcaption></figure>'
        )

    def write(self, path: Path) -> None:
        blocks = "\n".join(self._blocks)
        path.write_text(
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{self._title}</title>'
            f"<style>{_STYLE}</style></head>\n<body><h1>{self._title}</h1>\n{blocks}\n</body></html>\n",
            encoding="utf-8",
        )
