"""RunPod's worker side: what GPU workers built on the `runpod` SDK call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, TypeVar

from aiohttp import web

from .clock import Clock
from .counters import LOST
from .hosting import HostedEndpoint
from .jobs import SimJob
from .joined import JoinedWorker, JoinedWorkers
from .operations import WORKER_METHODS, WorkerOperation
from .replies import Refusal, authorized, encode, read_body, reply
from .striking import ERRORS, answer_with

__all__ = ["WorkerApi"]

_HOLD_S = 20.0
"""Real seconds for which job-take and job-stop are held back while there is nothing. The SDK gives up after 90."""
_LOOK_S = 0.5
"""How often a held call looks whether its caller is still there."""
_REFUSED_AFTER_S = 1.0
"""The SDK calls again at once after a refusal; this keeps a worker with a wrong setting from turning at full speed."""
_MOST_AT_ONCE = 1000
_CHUNK_BYTES = 1024 * 1024
"""RunPod docs, operation-reference: a chunk of a stream has at most 1 MB."""

_OF_JOBS = frozenset({WorkerOperation.JOB_DONE, WorkerOperation.JOB_STREAM})
_NOTHING = 204

_Found = TypeVar("_Found")


class WorkerApi:
    """Answers `/v2/{endpoint}/{operation}/{worker}[/{job}]`.

    Written from the SDK's side of it (runpod 1.12.0, serverless/modules: rp_job, rp_http, rp_ping, rp_scale) and from
    what it was seen to send; RunPod's own side is not published.
    """

    def __init__(self, clock: Clock, endpoints: Mapping[str, HostedEndpoint], keys: Collection[str]) -> None:
        self._clock = clock
        self._endpoints = endpoints
        self._keys = keys
        self._serve: dict[WorkerOperation, Callable[[_Call], Awaitable[web.Response]]] = {
            WorkerOperation.JOB_TAKE: self._take,
            WorkerOperation.JOB_TAKE_BATCH: self._take_batch,
            WorkerOperation.JOB_DONE: self._done,
            WorkerOperation.JOB_STREAM: self._stream,
            WorkerOperation.JOB_STOP: self._stop,
            WorkerOperation.PING: self._ping,
        }

    async def handle(self, request: web.BaseRequest, parts: list[str]) -> web.Response:
        """One request; `parts` is the path behind /v2, its second part a `WorkerOperation`."""
        try:
            call = self._route(request, parts)
        except Refusal as refusal:
            await asyncio.sleep(_REFUSED_AFTER_S)
            return refusal.response()
        now = call.endpoint.advance()
        strike = call.endpoint.faults.strike(call.op, call.job_id, now=now)
        response = await answer_with(strike, request, self._clock, lambda: self._carry_out(call))
        lost = request.transport is None or request.transport.is_closing()
        call.endpoint.core.counters.call(call.op, LOST if lost else response.status)
        return response

    def _route(self, request: web.BaseRequest, parts: list[str]) -> _Call:
        endpoint = self._endpoints.get(parts[0])
        if endpoint is None:
            raise Refusal(404, "endpoint not found")
        op = WorkerOperation(parts[1])
        if len(parts) != (4 if op in _OF_JOBS else 3):
            raise Refusal(404, "not found")
        if request.method != WORKER_METHODS[op]:
            raise Refusal(405, "method not allowed")
        if not authorized(request, self._keys, bare=True):
            raise Refusal(401, ERRORS[401])
        joined = endpoint.core.joined
        if joined is None:
            raise Refusal(409, f"endpoint {parts[0]!r} has simulated workers: set `joined` for it")
        return _Call(request, endpoint, joined, op, parts[2], parts[3] if op in _OF_JOBS else None)

    async def _carry_out(self, call: _Call) -> web.Response:
        try:
            return await self._serve[call.op](call)
        except Refusal as refusal:
            return refusal.response()

    async def _take(self, call: _Call) -> web.Response:
        jobs = await self._take_up_to(call, 1)
        return reply(_handed_out(jobs[0])) if jobs else web.Response(status=_NOTHING)

    async def _take_batch(self, call: _Call) -> web.Response:
        text = call.request.query.get("batch_size", "1")
        if not text.isdigit() or not 1 <= int(text) <= _MOST_AT_ONCE:
            raise Refusal(400, f"batch_size must be from 1 to {_MOST_AT_ONCE}")
        jobs = await self._take_up_to(call, int(text))
        return reply([_handed_out(job) for job in jobs]) if jobs else web.Response(status=_NOTHING)

    async def _take_up_to(self, call: _Call, most: int) -> list[SimJob]:
        worker = call.seen()
        if call.request.query.get("job_in_progress") == "0":
            call.joined.idle(worker, self._clock.now())
        return await self._held(call, worker, lambda now: call.joined.take(worker, most, now))

    async def _stop(self, call: _Call) -> web.Response:
        worker = call.seen()
        told = await self._held(call, worker, lambda now: call.joined.stops(worker, now))
        return reply({"jobsToStop": told}) if told else web.Response(status=_NOTHING)

    async def _held(self, call: _Call, worker: JoinedWorker, look: Callable[[float], list[_Found]]) -> list[_Found]:
        """Look until there is something, or the caller should call again."""
        loop = asyncio.get_running_loop()
        until, restarts = loop.time() + _HOLD_S, worker.asked_for_stop
        while True:
            now = call.endpoint.advance()
            if call.gone:
                worker.hung_up_at = now
                return []
            # Nothing for a worker that was lost meanwhile, or that is to go: it would never do it.
            if not call.joined.has(worker) or worker.asked_for_stop != restarts:
                return []
            left = until - loop.time()
            if (found := look(now)) or left <= 0:
                return found
            await call.endpoint.bell.wait(min(left, _LOOK_S))

    async def _done(self, call: _Call) -> web.Response:
        """A result, or progress: the SDK posts both to this address.

        A body over the limit gets 400, which the SDK only logs, and the job is COMPLETED without output
        (worker-comfyui #129, #167). What comes for a run that is over is taken without effect; RunPod was seen to let
        a late progress undo the end (runpod-python #250), which is a fault here.
        """
        limit = call.endpoint.config.output_limit_bytes
        try:
            body = await read_body(call.request, limit)
        except Refusal:
            if (job := call.own_job()) is not None and (call.request.content_length or 0) > limit:
                call.joined.done(call.worker_id, job, self._clock.now())
            raise
        if not isinstance(body, dict):
            raise Refusal(400, "request body must be a JSON object")
        job = call.own_job()
        if body.get("status") == "IN_PROGRESS":
            if job is not None:
                call.joined.progress(job, body.get("output"))
            else:
                call.late_progress(body.get("output"))
        elif job is not None:
            output, error = body.get("output"), body.get("error") or None
            call.joined.done(
                call.worker_id,
                job,
                self._clock.now(),
                output=None if output is None else encode(output),
                error=error if error is None or isinstance(error, str) else encode(error).decode(),
            )
        else:
            call.joined.let_go(call.worker_id, call.job_id or "", self._clock.now())
        if body.get("stopPod") is True:
            call.joined.refresh(call.worker_id, self._clock.now())
            call.endpoint.bell.ring()
        return reply({})

    async def _stream(self, call: _Call) -> web.Response:
        body = await read_body(call.request, _CHUNK_BYTES)
        job = call.own_job()
        if job is not None and isinstance(body, dict):
            call.joined.chunk(job, body.get("output"))
        return reply({})

    async def _ping(self, call: _Call) -> web.Response:
        """`job_id` has what the worker works on; `status=unhealthy` comes once from a worker that gives up at its
        start."""
        query = call.request.query
        now = self._clock.now()
        if query.get("status") == "unhealthy":
            call.joined.unfit(call.worker_id, now)
        else:
            job_ids = [job_id for job_id in query.get("job_id", "").split(",") if job_id]
            call.joined.ping(call.worker_id, job_ids, now)
            call.endpoint.bell.ring()
        return reply({})


class _Call:
    """One request of one worker."""

    __slots__ = ("endpoint", "job_id", "joined", "op", "request", "worker_id")

    def __init__(
        self,
        request: web.BaseRequest,
        endpoint: HostedEndpoint,
        joined: JoinedWorkers,
        op: WorkerOperation,
        worker_id: str,
        job_id: str | None,
    ) -> None:
        self.request = request
        self.endpoint = endpoint
        self.joined = joined
        self.op = op
        self.worker_id = worker_id
        self.job_id = job_id

    @property
    def gone(self) -> bool:
        """Whether the caller has hung up."""
        transport = self.request.transport
        return transport is None or transport.is_closing()

    def seen(self) -> JoinedWorker:
        return self.joined.seen(self.worker_id, self.endpoint.advance())

    def late_progress(self, progress: Any) -> None:
        """A progress for a job that has ended, or is another's by now."""
        now = self.endpoint.advance()
        job = self.endpoint.find(self.job_id or "")
        if job is None or job.live or job.report is None or job.worker_id != self.worker_id:
            return
        if self.endpoint.faults.late_progress(job.id, now) is not None:
            job.report.progress = progress
            self.endpoint.core.revive(job, now)

    def own_job(self) -> SimJob | None:
        """The job in the URL if it is this worker's now; `Refusal` 404 where it is known no more (its ttl ended while
        it ran: runpod-python #56)."""
        now = self.endpoint.advance()
        job = self.endpoint.find(self.job_id or "")
        if job is None:
            raise Refusal(404, ERRORS[404])
        return job if self.joined.owns(self.worker_id, job.id, now) else None


def _handed_out(job: SimJob) -> dict[str, Any]:
    """What a worker gets. An empty input is left out: the SDK then logs "Job has missing field(s): id or input", and
    the job ends FAILED with "job timed out after 1 retries", as captured live."""
    handed: dict[str, Any] = {"id": job.id}
    if job.input:
        handed["input"] = job.input
    if job.webhook is not None:
        handed["webhook"] = job.webhook
    if job.s3_config is not None:
        handed["s3Config"] = job.s3_config
    return handed
