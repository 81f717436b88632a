"""Where alerts arrive in tests: an HTTP server that takes webhooks, and a mail server."""

from __future__ import annotations

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Hooks", "Mailbox"]


class Hooks:
    """An HTTP server: `heard` is each POST as (path, JSON). It answers `status`; while `hold` is set it does not."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.status = 200
        self.hold = threading.Event()
        self.hold.set()
        owner = self

        class Answers(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                owner.heard.append((self.path, json.loads(body)))
                owner.hold.wait(30)
                self.send_response(owner.status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def url(self, path: str, scheme: str = "json") -> str:
        """An address of apprise that leads here, with something in it that is secret."""
        return f"{scheme}://someone:topsecret@127.0.0.1:{self.port}/{path}"

    @property
    def titles(self) -> list[str]:
        return [body["title"] for _path, body in list(self.heard)]

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()


class Mailbox:
    """An SMTP server that takes all mail: `mails` are the texts."""

    def __init__(self) -> None:
        self.mails: list[str] = []
        owner = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self._say("220 here")
                while line := self.rfile.readline().decode().strip():
                    match line.split()[0].upper():
                        case "EHLO" | "HELO":
                            self._say("250-here\r\n250 AUTH PLAIN LOGIN")
                        case "AUTH":
                            self._say("235 welcome")
                        case "DATA":
                            self._say("354 go on")
                            self._take()
                        case "QUIT":
                            self._say("221 bye")
                            return
                        case _:
                            self._say("250 ok")

            def _take(self) -> None:
                lines = []
                while (line := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                    lines.append(line)
                owner.mails.append("\n".join(lines))
                self._say("250 taken")

            def _say(self, text: str) -> None:
                self.wfile.write(f"{text}\r\n".encode())

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"mailto://someone:topsecret@127.0.0.1:{self.port}?from=ryla@example.com&to=ops@example.com"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
