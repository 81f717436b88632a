"""The handle of a job: rebuilt from its id anywhere, in a web process, a script or a worker."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ryla_tasks.artifacts import Artifact
from ryla_tasks.celery_app import current_app
from ryla_tasks.errors import InvalidJob, JobError, WaitTimeout
from ryla_tasks.jobs.cost import so_far
from ryla_tasks.jobs.ending import raised
from ryla_tasks.jobs.progress import Progress, progress_of
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.sheet import CellState, state_of
from ryla_tasks.jobs.states import State
from ryla_tasks.store.events import START, Event, read_events
from ryla_tasks.store.listing import list_records
from ryla_tasks.tasks.again import make_again
from ryla_tasks.tasks.messages import send_cancel, send_deliveries, send_poll
from ryla_tasks.tasks.runtime import Runtime, runtime_of

__all__ = ["Cell", "Job", "list_jobs"]

#: Longest wait for an event in one read: shorter than the socket time-out.
_BLOCK_S = 2.0

#: How long one look at a job's events counts as watching it.
_WATCH_S = 15.0


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a sheet: its name (the angle, of a character sheet), where it stands, and its job, if there is one."""

    name: str
    status: State
    job_id: str | None
    percent: float = 0.0
    error: JobError | None = None


class Job:
    """One job. `Job.get(id)` raises `JobNotFound` for an unknown id; every property asks Redis anew, unless the job is
    known to have ended."""

    def __init__(self, job_id: str) -> None:
        self.id = job_id
        self._ended: JobRecord | None = None

    @classmethod
    def get(cls, job_id: str) -> Job:
        """The job of this id, which is also the id of its Celery task. Raises `JobNotFound`."""
        job = cls(job_id)
        job.record  # noqa: B018 - raises where there is none
        return job

    @classmethod
    def of(cls, record: JobRecord) -> Job:
        """The job of a record in hand. One that has ended does not change any more, and is not asked after again."""
        job = cls(record.job_id)
        job._ended = record if record.state.ended else None
        return job

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    @property
    def record(self) -> JobRecord:
        """All that is kept of the job."""
        return self._ended or self._runtime.store.load(self.id)[0]

    @property
    def status(self) -> State:
        """Where the job stands."""
        return self.record.state

    @property
    def progress(self) -> Progress:
        """How far the job is, in numbers and in words for its user."""
        return progress_of(*self._runtime.store.load(self.id))

    @property
    def cost(self) -> float | None:
        """What the job has cost so far, of a sheet all its cells, estimated in US dollars; None where its target has no
        price."""
        record, now = self._runtime.store.load(self.id)
        if not record.spec.cells:
            return so_far(record, now)
        cells = [cell.record for cell in self._runtime.sheets.view(record).cells if cell.record is not None]
        costs = [so_far(cell, now) for cell in cells]
        return sum(cost for cost in costs if cost is not None) if any(cost is not None for cost in costs) else None

    @property
    def artifacts(self) -> list[Artifact]:
        """The files of a completed job; none before."""
        ending = self.record.ending or {}
        return [Artifact.from_json(one) for one in ending.get("result", {}).get("artifacts", ())]

    def artifact_url(self, artifact: Artifact) -> str:
        """A URL for one of the job's files, made now; it expires as the settings say."""
        return self._runtime.artifacts.url(artifact.key, self._runtime.settings.artifact_url_ttl_s)

    def artifact_bytes(self, artifact: Artifact) -> bytes:
        """The contents of one of the job's files."""
        return self._runtime.artifacts.get(artifact.key)

    def events(self, after: str = START, *, follow: bool = False, timeout: float | None = None) -> Iterator[Event]:
        """What happened to the job after a position, oldest first.

        With `follow` it goes on until the job has ended, however long that takes, or until `timeout` seconds have
        passed without an end. Reading may stop and go on later, elsewhere, from `event.position`.
        """
        end = None if timeout is None else time.monotonic() + timeout
        store = self._runtime.store
        watched_until = 0.0
        while True:
            if follow and time.monotonic() >= watched_until - _BLOCK_S:
                self._watch()
                watched_until = time.monotonic() + _WATCH_S
            block = _block(end) if follow else None
            ended = False
            for event in read_events(store.client, store.prefix, self.id, after=after, block_s=block):
                after, ended = event.position, _is_end(event)
                yield event
            if not follow or ended or (end is not None and time.monotonic() >= end):
                return
            if block is not None and self.record.state.ended:
                # Its last events may have come between the read and this look.
                yield from read_events(store.client, store.prefix, self.id, after=after)
                return

    def _watch(self) -> None:
        """Tell the poll planner that somebody follows the progress."""
        wake_s, target = self._runtime.store.watch(self.id, _WATCH_S)
        send_poll(current_app(), target, wake_s)

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the end and return the result, or raise the job's error.

        Raises `WaitTimeout` after `timeout` seconds; the job goes on.
        """
        for _event in self.events(follow=True, timeout=timeout):
            pass
        record = self.record
        if not record.state.ended:
            raise WaitTimeout(f"Job {self.id} is {record.state} after {timeout} s; it goes on.")
        return self.result()

    def result(self) -> dict[str, Any]:
        """The result of a completed job. Raises its `JobError` if it ended otherwise, `WaitTimeout` if it has not."""
        record = self.record
        if record.ending is None:
            raise WaitTimeout(f"Job {self.id} is {record.state}: it has no result yet.")
        if "result" in record.ending:
            result: dict[str, Any] = record.ending["result"]
            return result
        raise raised(self.id, record.ending)

    @property
    def error(self) -> JobError | None:
        """The error that the job ended with, if it ended with one."""
        ending = self.record.ending
        return raised(self.id, ending) if ending and "error" in ending else None

    @property
    def cells(self) -> list[Cell]:
        """The cells of a sheet, in its order; of any other job none."""
        record = self.record
        while record.alias_of:
            record = self._runtime.store.load(record.alias_of)[0]
        return [_cell(one) for one in self._runtime.sheets.view(record).cells] if record.spec.cells else []

    def retry_missing(self, **options: Any) -> Job:
        """Make the missing cells of a sheet that has ended, in a new sheet that takes over what this one has made.

        `options` are those of any job; the user, tags and priority are this one's unless given. Called twice it gives
        the same new sheet, unless it gets an `idempotency_key` of its own. Raises `InvalidJob` where nothing is
        missing.
        """
        spec = self.record.spec
        mine = {
            "user_id": spec.user_id,
            "tags": list(spec.tags),
            "priority": str(spec.priority),
            "idempotency_key": f"resume {self.id}",
        }
        task = current_app().tasks["ryla.make_character_sheet"]
        return Job(task.apply_async(kwargs={**mine, **options, "resume": self.id}).id)

    def retry(self, *, again: bool = False, may_pay_twice: bool = False, **options: Any) -> Job:
        """Make a job again that has ended without a result: a new one with the same task and input, and an id of its
        own; its `record.spec.retry_of` names this one. Of a sheet it makes what is missing, as `retry_missing` does.

        `options` are those of any job. The user, tags, priority, `on_unknown` and `max_cost_usd` are this one's unless
        given; its deadline and number of retries are those of today's settings. Called twice it gives the same new job,
        with `again` another one. Budgets hold for it as for any job. What followed this job in a chain, group or chord
        has been told of its end, and does not follow the new one.

        Raises `InvalidJob` for a job that is under way, has completed, or whose input is gone (`keep_input_bytes`), and
        for one that ended while nobody knew whether a GPU had taken it, unless `may_pay_twice`.
        """
        return Job(make_again(current_app(), self.id, options, again=again, may_pay_twice=may_pay_twice).job_id)

    def cancel(self) -> bool:
        """Ask the job to stop; a job on a GPU is cancelled there, a sheet in every cell. False where it is too late.

        The job is over when its status says so: what completes before the cancel arrives is kept.
        """
        word, deliveries = self._runtime.store.cancel(self.id)
        app = current_app()
        send_deliveries(app, deliveries)
        if word == "remote":
            send_cancel(app, job_id=self.id)
        return word not in ("over", "gone")

    @property
    def _runtime(self) -> Runtime:
        return runtime_of(current_app())


def list_jobs(
    *,
    user_id: str | None = None,
    kind: str | None = None,
    status: State | str | None = None,
    endpoint: str | None = None,
    limit: int = 50,
    cells: bool = False,
) -> list[JobRecord]:
    """Jobs that fit all that is given, newest first, at most `limit`. Raises `InvalidJob` naming a bad argument.

    The cells of sheets are listed only with `cells`.
    """
    store = runtime_of(current_app()).store
    state = _state(status)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise InvalidJob("limit: must be a number, 0 or more", field="limit")
    found = list_records(
        store.client, store.prefix, user_id=user_id, kind=kind, state=state, endpoint=endpoint, cells=cells
    )
    return list(itertools.islice(found, limit))


def _cell(cell: CellState) -> Cell:
    record, entry = cell.record, cell.entry or {}
    ending = record.ending if record is not None else None
    state = state_of(cell)
    return Cell(
        cell.name,
        state,
        record.job_id if record is not None else entry.get("job_id"),
        100.0 if state is State.COMPLETED else record.observed.percent if record is not None else 0.0,
        raised(record.job_id, ending) if record is not None and ending and "error" in ending else None,
    )


def _state(status: State | str | None) -> State | None:
    try:
        return None if status is None else State(status)
    except ValueError:
        known = ", ".join(State)
        raise InvalidJob(f"status: {status!r} is none of {known}", field="status") from None


def _block(end: float | None) -> float:
    return _BLOCK_S if end is None else min(_BLOCK_S, max(0.001, end - time.monotonic()))


def _is_end(event: Event) -> bool:
    phase = event.data.get("phase")
    return phase is not None and State(phase).ended
