from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from raw_server import Behaviour, RawServer

from ryla_tasks.providers.runpod import CallRetry, RunPod, Timeouts

KEY = "rpa_THEKEYTHATMUSTNOTSHOW0123456789"


@pytest.fixture
def serve() -> Iterator[Callable[..., RawServer]]:
    """Start a server that plays the given behaviours."""
    with ExitStack() as stack:

        def start(*behaviours: Behaviour, **options: Any) -> RawServer:
            server = RawServer(*behaviours, **options)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def connect() -> Iterator[Callable[..., RunPod]]:
    """Make a client for a server, with short times."""
    with ExitStack() as stack:

        def make(server: RawServer | str, **options: Any) -> RunPod:
            options.setdefault("timeouts", Timeouts(connect=2, read=0.4, total=0.8))
            options.setdefault("call_retry", CallRetry(attempts=3, first_wait=0.01, max_wait=0.02, total=5))
            client = RunPod(KEY, server if isinstance(server, str) else server.url, **options)
            stack.callback(client.close)
            return client

        yield make


@pytest.fixture
def key() -> str:
    return KEY
