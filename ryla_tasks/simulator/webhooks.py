"""Tells the submitter that a job has ended."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import aiohttp

from .clock import Clock
from .jobs import JobStatus, SimJob

if TYPE_CHECKING:
    from .hosting import HostedEndpoint

__all__ = ["WebhookSender"]

logger = logging.getLogger(__name__)

_TIMEOUT_S = 30.0

# Captured for these; whether RunPod also calls for TIMED_OUT is not published, so nobody may count on it.
_ANNOUNCED = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})


class WebhookSender:
    """Posts the job at its end, with up to two more tries on anything but a 2xx (RunPod docs, send-requests).

    The body is the job with its `input` and `webhook`, the same bytes at each try; there is no signature and no
    authentication (captured live, as is the user agent).
    """

    def __init__(self, clock: Clock, retries_s: tuple[float, ...]) -> None:
        self._clock = clock
        self._retries_s = retries_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    def send(self, endpoint: HostedEndpoint, job: SimJob, url: str) -> None:
        """Start to deliver, in the background."""
        if job.status not in _ANNOUNCED:
            return
        fault = endpoint.faults.webhook(job.id, self._clock.now())
        times, after_s, apart_s = (1, 0.0, 0.0) if fault is None else (fault.times_each, fault.after_s, fault.apart_s)
        for number in range(times):
            fields = {**job.status_fields(self._clock.now()), "input": job.input, "webhook": url}
            task = asyncio.create_task(self._deliver(endpoint, job, url, fields, after_s + number * apart_s))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Drop what is not delivered."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _deliver(
        self, endpoint: HostedEndpoint, job: SimJob, url: str, fields: dict[str, Any], later_s: float
    ) -> None:
        output = await endpoint.output(job)
        if output is not None:
            fields["output"] = json.loads(output)
        body = json.dumps(fields, sort_keys=True).encode()
        counters = endpoint.core.counters
        for wait in (later_s, *self._retries_s):
            await asyncio.sleep(self._clock.real(wait))
            counters.webhooks_sent += 1
            if await self._post(url, body):
                counters.webhooks_delivered += 1
                return

    async def _post(self, url: str, body: bytes) -> bool:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
            headers = {"User-Agent": "Go-http-client/2.0", "Content-Type": "application/json"}
            self._session = aiohttp.ClientSession(timeout=timeout, headers=headers)
        try:
            async with self._session.post(url, data=body, allow_redirects=False) as answer:
                return 200 <= answer.status < 300
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            logger.info("A webhook was not delivered: %s", type(error).__name__)
            return False
