"""Carries a fault out on the answer to a call."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from .clock import Clock
from .faults import Answer, CutAnswer, LoseAnswer, Outdated, Reset, Strike
from .replies import encode, reply

__all__ = ["ERRORS", "answer_with"]

ERRORS = {401: "unauthorized", 404: "job not found", 429: "too many requests"}


async def answer_with(
    strike: Strike | None,
    request: web.BaseRequest,
    clock: Clock,
    serve: Callable[[], Awaitable[web.Response]],
    outdated: Callable[[float], Any] | None = None,
) -> web.Response:
    """What `serve` answers, late, falsely or not at all where a fault strikes. `outdated` has the answer of before, at
    a fraction of the job's run."""
    if strike is None:
        return await serve()
    if strike.carried_out:
        response = await serve()
    else:
        response = web.Response()
    if strike.delay_s:
        await asyncio.sleep(clock.real(strike.delay_s))
    fault = strike.reply
    if isinstance(fault, Outdated):
        # The job may be gone since, where the answer was held back.
        before = outdated(fault.fraction) if outdated is not None else None
        return response if before is None else reply(before)
    if isinstance(fault, CutAnswer):
        return await _cut(request, response)
    return response if fault is None else _false_answer(request, fault, response)


def _false_answer(request: web.BaseRequest, fault: LoseAnswer | Answer | Reset, response: web.Response) -> web.Response:
    if isinstance(fault, Answer):
        headers = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
        usual = {"error": ERRORS.get(fault.status, f"simulated {fault.status}")}
        return reply(encode(usual) if fault.body is None else fault.body.encode(), fault.status, headers)
    if request.transport is not None:
        if isinstance(fault, Reset):
            _reset_at_close(request.transport)
        request.transport.close()
    return response


def _reset_at_close(transport: asyncio.BaseTransport) -> None:
    """Have the connection end with a RST in place of a FIN."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _cut(request: web.BaseRequest, response: web.Response) -> web.Response:
    """Send the headers of the whole answer and half of its body."""
    body = response.body if isinstance(response.body, bytes) else b""
    cut = web.StreamResponse(status=response.status, headers={"Content-Type": "application/json"})
    cut.content_length = len(body)
    await cut.prepare(request)
    await cut.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
