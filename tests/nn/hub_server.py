"""A local server that speaks the part of the Hub's protocol that downloads use."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "29dfa9718434a58b3241af3c43dca90c867bea15"


@dataclass
class Hub:
    """What is served, and what was asked for: (method, path)."""

    repository: str
    files: dict[str, Path]
    url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)

    def downloads(self) -> list[str]:
        return [path for method, path in self.requests if method == "GET" and path.startswith("/cdn/")]


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """`hub` on a free local port: files answer with commit, ETag and a redirect to another host, as to the CDN."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self) -> None:
            hub.requests.append((self.command, self.path))
            if self.path.startswith("/cdn/") and (file := hub.files.get(self.path[len("/cdn/") :])):
                self._send(200, file.read_bytes(), {"ETag": f'"{_etag(file)}"'})
            elif self.path.startswith(f"/{hub.repository}/resolve/"):
                self._resolve(self.path.rsplit("/", 1)[1])
            elif self.path.startswith(f"/api/models/{hub.repository}/tree/"):
                tree = [{"type": "file", "path": name, "size": 1, "oid": "0"} for name in hub.files]
                self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
            elif self.path.startswith(f"/api/models/{hub.repository}"):
                siblings = [{"rfilename": name} for name in hub.files]
                body = {"id": hub.repository, "sha": COMMIT, "siblings": siblings}
                self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})
            else:
                self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

        def _resolve(self, name: str) -> None:
            if name not in hub.files:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
                return
            file = hub.files[name]
            headers = {
                "X-Repo-Commit": COMMIT,
                "X-Linked-Etag": f'"{_etag(file)}"',
                "X-Linked-Size": str(file.stat().st_size),
                "ETag": '"of-the-redirect"',
                "Location": f"{hub.url.replace('127.0.0.1', 'localhost')}/cdn/{name}",
            }
            self._send(302, b"", headers)

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    return Handler


def _etag(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
