"""One job, from RunPod's hand back into it. What the steps are is here; how each works is in the other modules."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workers.comfyui import preflight
from workers.comfyui.client import ComfyClient, ComfyGone
from workers.comfyui.faces import CountFaces, check_faces, is_unchanged, no_face
from workers.comfyui.faults import died, prompt_refused, run_failed, unreachable
from workers.comfyui.fetched import bring_images, bring_models
from workers.comfyui.inputs import Request, prefixed, read_request, with_images
from workers.comfyui.outputs import Outputs, deliver, find_outputs
from workers.comfyui.progress import Tracker
from workers.comfyui.settings import Settings
from workers.comfyui.supervisor import State, Supervisor
from workers.comfyui.watching import Watcher
from workers.common.failures import JobFailure, answer_of
from workers.common.notice import taken
from workers.common.reporting import Reporter, Send
from workers.common.storing import Store

__all__ = ["Worker"]

log = logging.getLogger(__name__)

_CLEAN_S = 5.0


class Worker:
    """Does jobs, one at a time. `handle` is RunPod's handler, `concurrency` its concurrency modifier."""

    def __init__(
        self,
        settings: Settings,
        supervisor: Supervisor,
        *,
        sender: Callable[[dict[str, Any]], Send],
        store: Store | None = None,
        detector: CountFaces | None = None,
    ) -> None:
        self.settings = settings
        self.supervisor = supervisor
        self._sender = sender
        self._store = store
        self._detector = detector
        self._asides: set[asyncio.Task[Any]] = set()
        self._settling = 0
        self.in_hand = 0

    def concurrency(self, _current: int = 1) -> int:
        """How many jobs may be in hand: none while ComfyUI is not ready, or still at a job that was cancelled."""
        return 1 if self.supervisor.state is State.READY and not self._settling else 0

    async def handle(self, job: dict[str, Any]) -> dict[str, Any]:
        """Do a job. Returns its output or an error's answer; a cancel ends it at once, and ComfyUI's work on it."""
        self.in_hand += 1
        self._aside(taken(job))
        reporter = Reporter(self._sender(job), self.settings.progress_s)
        try:
            answer = await self._handle(job, reporter)
        except asyncio.CancelledError:
            await reporter.close(at_once=True)
            raise
        finally:
            self.in_hand -= 1
        await reporter.close()
        return answer

    async def _handle(self, job: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
        deadline_s = self._deadline_s(job)
        try:
            request = read_request(job.get("input"), self.settings)
            async with asyncio.timeout(deadline_s) as limit:
                answer = await _Run(self, job, request, reporter).go()
        except TimeoutError as error:
            if not limit.expired():
                return answer_of(error)
            sentence = "The job took longer than the GPU worker allows."
            answer = JobFailure("deadline", sentence, {"deadline_s": deadline_s}).answer()
        except JobFailure as failure:
            log.warning("job %s: %s", job.get("id"), failure.code)
            answer = failure.answer()
        except Exception as error:
            log.exception("job %s", job.get("id"))
            answer = answer_of(error)
        else:
            self.supervisor.served()
        return answer

    def _deadline_s(self, job: dict[str, Any]) -> float | None:
        """By the job's own policy where RunPod passes it on, a little before RunPod would end it; else by setting."""
        policy = job.get("policy")
        allowed = policy.get("executionTimeout") if isinstance(policy, dict) else None
        if isinstance(allowed, (int, float)) and allowed > 0:
            return max(allowed / 1000.0 - 2.0, 1.0)
        return self.settings.deadline_s or None

    def _aside(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    def settle(self, prompt_id: str) -> None:
        """Take no further job until ComfyUI has let go of this prompt. One that does not obey is killed."""
        self._settling += 1
        self._aside(self._settle(prompt_id))

    async def _settle(self, prompt_id: str) -> None:
        generation, deadline = self.supervisor.generation, time.monotonic() + self.settings.stop_s
        try:
            async with ComfyClient(self.settings.url) as client:
                while self.supervisor.generation == generation and self.supervisor.state is State.READY:
                    if not await client.is_queued(prompt_id):
                        return
                    if time.monotonic() > deadline:
                        self.supervisor.restart()
                        return
                    await asyncio.sleep(0.2)
        except ComfyGone:
            log.warning("ComfyUI is gone after a cancel")
        finally:
            self._settling -= 1

    @property
    def store(self) -> Store | None:
        return self._store

    @property
    def detector(self) -> CountFaces | None:
        return self._detector


class _Run:
    """The steps of one job, and what is to be cleaned up after them."""

    def __init__(self, worker: Worker, job: dict[str, Any], request: Request, reporter: Reporter) -> None:
        self._worker = worker
        self._settings = worker.settings
        self._request = request
        self._reporter = reporter
        self._client = ComfyClient(worker.settings.url, answer_s=min(15.0, worker.settings.silent_s))
        self._prompt_id = str(uuid.uuid4())
        self._submitted = False
        self._key = re.sub(r"[^A-Za-z0-9._-]", "_", str(job.get("id") or "job"))[:80]
        #: Of this run alone: RunPod may give one job twice to a worker.
        self._folder = f"ryla-{self._key}-{secrets.token_hex(3)}"
        self._warnings: list[str] = []

    async def go(self) -> dict[str, Any]:
        """Do it. Whatever happens, ComfyUI is left without the prompt, and without its files."""
        scratch = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="ryla-"))
        try:
            async with self._client:
                try:
                    return await self._go(scratch)
                finally:
                    await self._leave()
        finally:
            await asyncio.to_thread(self._clean, scratch)

    async def _go(self, scratch: Path) -> dict[str, Any]:
        generation = await self._ready()
        try:
            return await self._steps(scratch, generation)
        except ComfyGone as gone:
            log.error("job %s: ComfyUI is gone: %s", self._key, gone)
            raise died(refresh=await self._is_beyond(generation)) from gone

    async def _ready(self) -> int:
        """Wait for ComfyUI, as a job may come just when it dies. Returns its generation."""
        supervisor = self._worker.supervisor
        deadline = time.monotonic() + self._settings.start_s
        while supervisor.state is not State.READY:
            if supervisor.state in (State.GIVEN_UP, State.STOPPED) or time.monotonic() > deadline:
                raise unreachable(refresh=True)
            self._reporter.tell(0.0, "ComfyUI is starting")
            await asyncio.sleep(0.1)
        return supervisor.generation

    async def _is_beyond(self, generation: int) -> bool:
        """Whether this was one death too many. Waits until it has been noticed; one that only hangs is killed."""
        supervisor = self._worker.supervisor
        if not supervisor.owns:
            return False
        if supervisor.state is State.READY and supervisor.generation == generation:
            supervisor.restart()
        for _ in range(50):
            if supervisor.state is State.GIVEN_UP or supervisor.generation != generation:
                break
            await asyncio.sleep(0.1)
        return supervisor.state is State.GIVEN_UP

    async def _steps(self, scratch: Path, generation: int) -> dict[str, Any]:
        request, settings = self._request, self._settings
        if request.check:
            return (await self._missing()).answer()
        if request.files:
            self._reporter.tell(0.0, "Fetching model files")
            await bring_models(request.files, settings.models, most_bytes=settings.most_model_bytes)
        missing = (await self._missing()).failure()
        if missing is not None:
            raise missing
        if request.images:
            self._reporter.tell(0.0, "Fetching input images")
        paths = await bring_images(request.images, scratch, most_bytes=settings.most_image_bytes)
        self._warnings += await check_faces(request.needs_face, paths, self._worker.detector)
        names = {name: await self._client.upload(path, path.name, self._folder) for name, path in paths.items()}
        workflow = prefixed(with_images(request.workflow, names), self._folder, request.own_ids)
        entry = await self._watched(workflow, generation)
        failed = run_failed((entry.get("status") or {}).get("messages"), request.workflow)
        if failed is not None:
            raise failed
        return (await self._collected(entry, scratch, paths)).answer()

    async def _missing(self) -> preflight.Missing:
        classes = await self._client.classes(preflight.class_names(self._request.workflow))
        return preflight.find_missing(self._request.workflow, classes)

    async def _watched(self, workflow: dict[str, Any], generation: int) -> dict[str, Any]:
        tracker, started = Tracker(workflow, self._prompt_id), time.monotonic()
        client_id = uuid.uuid4().hex

        def on_progress() -> None:
            # A hundred per cent is the result's to say.
            self._reporter.tell(
                min(tracker.percent, 99.0),
                tracker.message,
                node=tracker.node or None,
                step=tracker.step,
                steps=tracker.steps,
                eta_s=tracker.eta_s(time.monotonic() - started),
            )

        def is_alive() -> bool:
            supervisor = self._worker.supervisor
            return supervisor.state is State.READY and supervisor.generation == generation

        async def submit() -> None:
            # What was sent may have arrived, even if its answer is lost: cleaned up from here on.
            self._submitted = True
            extra = {"api_key_comfy_org": self._request.api_key} if self._request.api_key else None
            errors = await self._client.submit(
                workflow, self._prompt_id, client_id, outputs=self._request.outputs, extra=extra
            )
            if errors:
                # ComfyUI would run what is left of the workflow, and say nothing more of what it dropped.
                raise prompt_refused({"node_errors": errors}, self._request.workflow)

        watcher = Watcher(
            self._client,
            tracker,
            self._prompt_id,
            client_id,
            is_alive=is_alive,
            on_progress=on_progress,
            silent_s=self._settings.silent_s,
        )
        return await watcher.run(submit)

    async def _collected(self, entry: dict[str, Any], scratch: Path, paths: dict[str, Path]) -> Outputs:
        found = find_outputs(entry, self._request.outputs)
        self._reporter.tell(99.0, "Sending the result")
        outputs = await deliver(
            found,
            self._client,
            self._worker.store,
            key=self._key,
            folder=scratch,
            most_bytes=self._settings.most_answer_bytes,
        )
        outputs.warnings = [*self._warnings, *outputs.warnings]
        if self._request.needs_face:
            for result in outputs.paths:
                if await asyncio.to_thread(is_unchanged, result, paths.values()):
                    raise no_face(self._request.needs_face, "the result is one of the input images, unchanged")
        return outputs

    async def _leave(self) -> None:
        """Have ComfyUI drop the prompt: at once where it still runs, from its history where it does not."""
        if not self._submitted:
            return
        with contextlib.suppress(ComfyGone, TimeoutError):
            async with asyncio.timeout(_CLEAN_S):
                if await self._client.is_queued(self._prompt_id):
                    await self._client.cancel(self._prompt_id)
                    self._worker.settle(self._prompt_id)
                else:
                    await self._client.forget(self._prompt_id)

    def _clean(self, scratch: Path) -> None:
        shutil.rmtree(scratch, ignore_errors=True)
        if self._settings.folder is not None:
            for kind in ("input", "output", "temp"):
                shutil.rmtree(self._settings.folder / kind / self._folder, ignore_errors=True)
