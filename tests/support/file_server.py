"""A server of files for GPU workers, which may have a certificate."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.tls import Certificate

__all__ = ["FileServer"]


class FileServer:
    """Serves what `files` has, path -> (type, bytes); notes what was asked for. With TLS if it gets a certificate."""

    def __init__(self, certificate: Certificate | None = None) -> None:
        self.files: dict[str, tuple[str, bytes]] = {}
        self.asked: list[str] = []
        self.posted: list[dict[str, Any]] = []
        owner = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                owner.asked.append(self.path)
                kind, data = owner.files.get(path, ("", b""))
                self.send_response(200 if kind else 404)
                self.send_header("Content-Type", kind or "text/plain")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self) -> None:
                owner.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        if certificate is not None:
            self._server.socket = certificate.for_servers().wrap_socket(self._server.socket, server_side=True)
        self._scheme = "http" if certificate is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def add(self, path: str, data: bytes, kind: str = "image/png") -> str:
        self.files[path] = (kind, data)
        return f"{self.url}{path}?X-Amz-Signature=secret"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
