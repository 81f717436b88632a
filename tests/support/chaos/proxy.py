"""A TCP proxy that can be cut, can hang, be slow, and be pointed elsewhere: the network between two programs."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from types import TracebackType
from typing import Self

__all__ = ["Proxy"]

_CHUNK = 65_536


class Proxy:
    """Listens on a port of 127.0.0.1 and passes on to another. With a `tls` context it is the end of TLS, and what it
    passes on is plain. Methods may be called from any thread."""

    def __init__(self, to_port: int, tls: ssl.SSLContext | None = None) -> None:
        self._to_port = to_port
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self._delay_s = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True, name="chaos-proxy")
        self._thread.start()
        self._started.wait()

    def cut(self) -> None:
        """Every connection breaks, and new ones are refused."""
        self._do(self._refuse)

    def hang(self) -> None:
        """Connections stay, and can be made, but nothing comes through."""
        self._do(self._open.clear)

    def slow(self, seconds: float) -> None:
        """Each piece of data takes so long."""
        self._delay_s = seconds

    def point_to(self, port: int) -> None:
        """Go elsewhere from now on; connections that there are break."""
        self._to_port = port
        self._do(self._abort)

    def heal(self) -> None:
        """All is well again."""
        self._delay_s = 0.0
        self._do(self._open.set)
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._abort)
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _do(self, action: object) -> None:
        done = threading.Event()

        def act() -> None:
            action()  # type: ignore[operator]
            done.set()

        self._loop.call_soon_threadsafe(act)
        done.wait(10)

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._open, self._stop = asyncio.Event(), asyncio.Event()
        self._open.set()
        await self._listen()
        self._started.set()
        await self._stop.wait()
        self._refuse()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=self._tls)
            self.port = self._server.sockets[0].getsockname()[1]

    def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to_port)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, back}
        self._writers |= pair
        try:
            await asyncio.gather(self._pass_on(reader, back), self._pass_on(there, writer))
        finally:
            self._writers -= pair
            for one in pair:
                one.transport.abort()

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while data := await source.read(_CHUNK):
                await self._open.wait()
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                sink.write(data)
                await sink.drain()
        sink.transport.abort()
