"""The RunPod serverless API over the simulated endpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from itertools import islice
from typing import Any

from aiohttp import web

from .clock import Clock
from .counters import LOST
from .faults import Strike
from .hosting import HostedEndpoint
from .jobs import JobStatus, SimJob
from .operations import METHODS, PAYLOAD_BYTES, Operation
from .replies import Refusal, authorized, encode, read_body, reply
from .striking import ERRORS, answer_with
from .submissions import read_submission

__all__ = ["RunPodApi"]

_JOB_OPERATIONS = frozenset({Operation.STATUS, Operation.STREAM, Operation.CANCEL, Operation.RETRY})
_RETRYABLE = frozenset({JobStatus.FAILED, JobStatus.TIMED_OUT})
_HOLD_MS = (1_000, 300_000)
_SYNC_HOLD_MS = 90_000
_STREAM_HOLD_MS = 10_000


class RunPodApi:
    """Answers `/v2/{endpoint}/{operation}[/{job}]`."""

    def __init__(self, clock: Clock, endpoints: Mapping[str, HostedEndpoint], keys: Collection[str]) -> None:
        self._clock = clock
        self._endpoints = endpoints
        self._keys = keys
        self._serve: dict[Operation, Callable[[_Call], Awaitable[web.Response]]] = {
            Operation.RUN: self._run,
            Operation.RUNSYNC: self._runsync,
            Operation.STATUS: self._status,
            Operation.STREAM: self._stream,
            Operation.CANCEL: self._cancel,
            Operation.RETRY: self._retry,
            Operation.HEALTH: self._health,
            Operation.PURGE_QUEUE: self._purge,
        }

    async def handle(self, request: web.BaseRequest, parts: list[str]) -> web.Response:
        """One request; `parts` is the path behind /v2."""
        try:
            call = self._route(request, parts)
        except Refusal as refusal:
            return refusal.response()
        response = await self._answer(call)
        lost = request.transport is None or request.transport.is_closing()
        call.endpoint.core.counters.call(call.op, LOST if lost else response.status)
        return response

    def _route(self, request: web.BaseRequest, parts: list[str]) -> _Call:
        """Find out what is asked. An unknown endpoint is 404 also without a key, a known one then 401 (reported by
        a third party)."""
        endpoint = self._endpoints.get(parts[0]) if parts else None
        if endpoint is None:
            raise Refusal(404, "endpoint not found")
        try:
            op = Operation(parts[1])
        except (IndexError, ValueError):
            raise Refusal(404, "not found") from None
        if len(parts) != (3 if op in _JOB_OPERATIONS else 2):
            raise Refusal(404, "not found")
        if request.method not in METHODS[op]:
            raise Refusal(405, "method not allowed")
        return _Call(request, endpoint, op, parts[2] if op in _JOB_OPERATIONS else None)

    async def _answer(self, call: _Call) -> web.Response:
        if not authorized(call.request, self._keys):
            return Refusal(401, ERRORS[401]).response()
        now = call.endpoint.advance()
        if not call.endpoint.admit(call.op, now):
            return Refusal(429, ERRORS[429]).response()
        try:
            strike = call.strike(now)
            return await answer_with(strike, call.request, self._clock, lambda: self._carry_out(call), call.outdated)
        finally:
            call.endpoint.leave(call.op)

    async def _carry_out(self, call: _Call) -> web.Response:
        try:
            return await self._serve[call.op](call)
        except Refusal as refusal:
            return refusal.response()

    async def _run(self, call: _Call) -> web.Response:
        job = await self._submit(call, sync=False)
        return reply({"id": job.id, "status": JobStatus.IN_QUEUE.value})

    async def _runsync(self, call: _Call) -> web.Response:
        """Waits `?wait=` milliseconds for the end, else answers with the job as it is (runpodctl)."""
        job = await self._submit(call, sync=True)
        until = self._clock.now() + call.hold_s(_SYNC_HOLD_MS)
        while job.live and (left := until - self._clock.now()) > 0:
            await call.endpoint.changed(job, left)
        return await self._render(call, job)

    async def _submit(self, call: _Call, *, sync: bool) -> SimJob:
        endpoint = call.endpoint
        body = await read_body(call.request, PAYLOAD_BYTES[call.op])
        now = endpoint.advance()
        config = endpoint.config
        if config.queue_limit and endpoint.core.queued > max(50, 500 * config.workers_max):
            raise Refusal(429, "too many requests: the queue is full")
        job = read_submission(body, config, now, sync=sync)
        endpoint.core.submit(job, now)
        return job

    async def _status(self, call: _Call) -> web.Response:
        return await self._render(call, call.job())

    async def _render(self, call: _Call, job: SimJob) -> web.Response:
        output = None if job.live else await call.endpoint.output(job)
        body = encode(job.status_fields(call.endpoint.advance()))
        if output is not None and not job.live:
            body = body[:-1] + b',"output":' + output + b"}"
        return reply(body)

    async def _stream(self, call: _Call) -> web.Response:
        """What is new since the last read; held back for up to `?wait=` milliseconds while nothing is (captured:
        reading drains)."""
        job = call.job()
        until = self._clock.now() + call.hold_s(_STREAM_HOLD_MS)
        while job.live and job.chunks_ready(now := call.endpoint.advance()) <= job.chunks_read and now < until:
            await call.endpoint.changed(job, min(until - now, job.next_chunk_in(now)))
        ready = job.chunks_ready(call.endpoint.advance())
        fresh = [{"output": chunk} for chunk in islice(job.chunks, job.chunks_read, ready)]
        job.chunks_read = max(ready, job.chunks_read)
        return reply({"status": job.status.value, "stream": fresh})

    async def _cancel(self, call: _Call) -> web.Response:
        """Idempotent. What RunPod says of a job that ended otherwise is not published: its status, here."""
        job = call.job()
        call.endpoint.core.cancel(job, self._clock.now())
        return reply({"id": job.id, "status": job.status.value})

    async def _retry(self, call: _Call) -> web.Response:
        """Only FAILED and TIMED_OUT jobs, under their id and with their input (RunPod docs, /retry)."""
        job = call.job()
        if job.status not in _RETRYABLE:
            raise Refusal(400, f"only FAILED and TIMED_OUT jobs can be retried, this one is {job.status}")
        call.endpoint.core.retry(job, self._clock.now())
        return reply({"id": job.id, "status": JobStatus.IN_QUEUE.value})

    async def _health(self, call: _Call) -> web.Response:
        return reply(call.endpoint.core.health())

    async def _purge(self, call: _Call) -> web.Response:
        return reply({"removed": call.endpoint.core.purge(self._clock.now()), "status": "completed"})


class _Call:
    """One request to one operation of one endpoint."""

    __slots__ = ("endpoint", "job_id", "op", "request")

    def __init__(self, request: web.BaseRequest, endpoint: HostedEndpoint, op: Operation, job_id: str | None) -> None:
        self.request = request
        self.endpoint = endpoint
        self.op = op
        self.job_id = job_id

    def job(self) -> SimJob:
        """The job in the URL; `Refusal` 404 after its retention and its ttl, as for one that never was."""
        job = self.endpoint.find(self.job_id or "")
        if job is None:
            raise Refusal(404, ERRORS[404])
        return job

    def strike(self, now: float) -> Strike | None:
        """What goes wrong with it."""
        job = None if self.job_id is None else self.endpoint.find(self.job_id)
        ended = job is not None and not job.live
        return self.endpoint.faults.strike(self.op, self.job_id, ended=ended, now=now)

    def outdated(self, fraction: float) -> dict[str, Any] | None:
        """What was said of its job when that ran."""
        job = self.endpoint.find(self.job_id or "")
        return None if job is None else job.outdated_fields(fraction)

    def hold_s(self, default_ms: int) -> float:
        """`?wait=` in seconds."""
        text = self.request.query.get("wait")
        if text is None:
            return default_ms / 1000
        low, high = _HOLD_MS
        if not text.isdigit() or not low <= int(text) <= high:
            raise Refusal(400, f"wait must be from {low} to {high} milliseconds")
        return int(text) / 1000
