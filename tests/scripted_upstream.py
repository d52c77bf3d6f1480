"""A real HTTP server that answers each path as a test tells it to, and keeps every request byte for byte."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SSE = "text/event-stream"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class ScriptedUpstream:
    """`answers` maps a path (with its query) to status, content type and body."""

    url: str
    answers: dict[str, tuple[int, str, bytes]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def says(self, path: str, body: bytes, content_type: str = JSON, status: int = 200) -> None:
        """From now on, answer so; what was asked before is forgotten."""
        self.answers[path] = (status, content_type, body)
        self.asked.clear()


@contextmanager
def scripted_upstream() -> Iterator[ScriptedUpstream]:
    """Runs in a thread of this process, on a free port."""
    upstream = ScriptedUpstream("")

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            upstream.asked.append(Asked(self.path, headers, body))
            status, content_type, answer = upstream.answers.get(self.path, (404, JSON, b"{}"))
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    upstream.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
