"""A web server that takes RunPod's webhook calls, in a thread of the test's process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from ryla_tasks.webhooks.wsgi import app as wsgi

__all__ = ["SECRET", "webhooks"]

SECRET = "a-long-random-text-for-tests"


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 256


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that wsgiref gives it
        pass


@contextmanager
def webhooks() -> Iterator[dict[str, str]]:
    """The settings that have an endpoint call it. Calls are taken by this process's own app and settings."""
    server = make_server("127.0.0.1", 0, wsgi, server_class=_Server, handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield {"RYLA_WEBHOOK_URL": f"http://127.0.0.1:{server.server_port}/hooks", "RYLA_WEBHOOK_SECRET": SECRET}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
