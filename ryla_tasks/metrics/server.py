"""The exporter's web server: /metrics for Prometheus, /healthz for whoever keeps it running."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["application", "server"]


class _Quiet(WSGIRequestHandler):
    #: A client that says nothing is let go.
    timeout = 10

    def log_message(self, *_args: Any) -> None:
        """A scrape each few seconds is no news."""


def application(registry: CollectorRegistry) -> WSGIApplication:
    """The WSGI app, for any server. /healthz says that the process answers, whether Redis does or not (`ryla_up`):
    starting an exporter anew mends no Redis."""
    metrics: Callable[..., Iterable[bytes]] = make_wsgi_app(registry, disable_compression=False)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        match environ.get("PATH_INFO", "/"):
            case "/metrics":
                return metrics(environ, start_response)
            case "/healthz":
                return _text(start_response, "200 OK", "ok\n")
            case "/":
                return _text(start_response, "200 OK", "ryla_tasks exporter: see /metrics\n")
            case _:
                return _text(start_response, "404 Not Found", "There are /metrics and /healthz.\n")

    return app


def server(address: str, port: int, registry: CollectorRegistry) -> WSGIServer:
    """A server with a thread for each request, bound and not yet serving. Port 0 takes a free one.

    Raises `OSError` where the address cannot be had.
    """
    return make_server(address, port, application(registry), server_class=ThreadingWSGIServer, handler_class=_Quiet)


def _text(start_response: StartResponse, status: str, text: str) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode()]
