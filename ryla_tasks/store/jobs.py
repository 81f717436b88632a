"""The job store: what the engine and the handles ask of Redis, one method for each operation of `commands.lua`."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import redis
from redis.exceptions import RedisError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from ryla_tasks.errors import JobNotFound, StoreUnavailable
from ryla_tasks.jobs.lifecycle import Decision, Step, cancelled_ending
from ryla_tasks.jobs.progress import progress_of
from ryla_tasks.jobs.record import CancelReason, JobRecord, JobSpec
from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.stats import sample_of
from ryla_tasks.store.codec import Meta, decode_record, dumps, event_json, pack_input, unpack_input
from ryla_tasks.store.scripts import Scripts

__all__ = [
    "Accepted",
    "Claim",
    "Created",
    "Creation",
    "Delivery",
    "JobStore",
    "NewJob",
    "Rate",
    "Recovered",
    "Refusal",
    "Refused",
    "Ride",
    "Settled",
    "Sweep",
]

#: For how much of its lease a claim whose answer was lost is asked for again.
_CLAIM_PATIENCE = 0.8

_EXPIRED = {"type": "JobExpired", "message": "The job was not started in time.",
            "info": {"code": "start_by", "category": "permanent", "details": None}}  # fmt: skip


class Creation(StrEnum):
    """What became of a wish to create a job."""

    CREATED = "created"
    EXISTS = "exists"
    SAME = "same"
    ALIAS = "alias"
    ENDED = "ended"
    CONFLICT = "conflict"
    TOMBSTONE = "tombstone"


class Refusal(StrEnum):
    """Why a claim was not given."""

    GONE = "gone"
    NONE = "none"
    MOVED = "moved"
    HELD = "held"
    EARLY = "early"
    WAIT = "wait"
    TROUBLE = "trouble"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to create. `input_json` is the endpoint's input as JSON, `envelope` the Celery message that runs it.

    `message` is that message as a Redis list and what is pushed to it, where it goes out with the record.
    """

    job_id: str
    spec: JobSpec
    input_json: str
    envelope: str
    delay_s: float = 0.0
    start_by_s: float | None = None
    digest: str = ""
    in_canvas: bool = False
    recorded: bool = True
    message: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A deliver message that has to be sent, with the envelope to send it by."""

    job_id: str
    envelope: str


@dataclass(frozen=True, slots=True)
class Created:
    """`job_id` is the job that stands for the wish: under an idempotency key, the one made before."""

    word: Creation
    job_id: str
    deliveries: tuple[Delivery, ...] = ()


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit of calls: `per_s` in the long run, `burst` at once, for the whole fleet; of submits, also how many may be
    `under_way` together."""

    per_s: float
    burst: int
    under_way: int = 1_000


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that is ours until the lease ends. `payload` is the input, or the kept remote output.

    `lost` says that an earlier claim of the same attempt died on its way; `durable`, that the intent is kept as the
    settings want. `taken` is the local monotonic time just
    before the claim was asked for: the lease's age counts from there. `wake_s` is the delay of a wake message to send
    for the jobs that are still in line at the endpoint, if any.
    """

    record: JobRecord
    fence: str
    now: float
    taken: float
    payload: Any = None
    lost: bool = False
    durable: bool = True
    wake_s: float | None = None

    def age(self) -> float:
        """Seconds since the lease began, at the most."""
        return time.monotonic() - self.taken

    def clock(self) -> float:
        """The time by Redis's clock, carried on by ours."""
        return self.now + self.age()


@dataclass(frozen=True, slots=True)
class Refused:
    """No claim; where `why` is EARLY, WAIT (for a limit) or TROUBLE (an open breaker), `in_s` says when there may be
    one. `wake_s` is the delay of a wake message to send for the endpoint, if any."""

    why: Refusal
    in_s: float = 0.0
    job_id: str = ""
    wake_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ride:
    """Jobs of one target, claimed together. `wake_s` is the delay of a poll message to send now, if any."""

    target: str
    fence: str
    now: float
    taken: float
    in_flight: int
    wake_s: float | None
    records: tuple[JobRecord, ...]

    def clock(self) -> float:
        """The time by Redis's clock, carried on by ours."""
        return self.now + time.monotonic() - self.taken


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settle did: per job whether it counted, the poll message and the deliveries to send."""

    counted: tuple[bool, ...]
    wake_s: float | None
    envelopes: tuple[Delivery, ...]
    breaker_open: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """How an accepted remote job was recorded. An orphan is cancelled by the sweeper."""

    orphan: bool
    cancelling: bool
    wake_s: float | None
    breaker_open: bool = False


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep found overdue: messages as (step, id, envelope), targets to poll, endpoints with jobs in line."""

    messages: tuple[tuple[str, str, str], ...]
    wakes: tuple[str, ...]
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recovered:
    """A burst of recovery: messages that were tried again, overdue polls that were taken up then, those of them that
    were more than 15 s late, and how long it went on."""

    tried: int
    recovered: int
    late: int
    seconds: float


class JobStore:
    """Jobs in Redis. Safe for use by many threads; every method is one round trip."""

    def __init__(self, client: redis.Redis, *, prefix: str, meta: Meta) -> None:
        self.client = client
        self.prefix = prefix
        self._meta = meta
        self._scripts = Scripts(client, prefix)

    def create(self, job: NewJob) -> Created:
        """Accept a job. From here on it is never lost. Creating it again, by id or key, changes nothing."""
        spec = job.spec
        record = JobRecord(job.job_id, spec)
        wish: dict[str, Any] = {
            "id": job.job_id,
            "endpoint": spec.endpoint,
            "user": spec.user_id,
            "kind": spec.kind,
            "rank": spec.priority.level,
            "retention_s": round(spec.retention_s),
            "delay_ms": round(job.delay_s * 1000),
        }
        if not spec.ignore_result:
            wish |= {"meta_key": self._meta.key(job.job_id), "meta_ttl": self._meta.ttl_s}
        if spec.deadline_s is not None:
            wish["deadline_ms"] = round((job.delay_s + spec.deadline_s) * 1000)
        if job.start_by_s is not None:
            wish["start_by_ms"] = round(job.start_by_s * 1000)
        if spec.idempotency_key:
            # The length keeps apart what users with a colon in their id could make look alike.
            idem = f"{len(spec.user_id)}:{spec.user_id}:{spec.idempotency_key}"
            wish |= {"idem": idem, "digest": job.digest, "alias": job.in_canvas}
        if not job.recorded:
            wish["unrecorded"] = True
        progress = progress_of(record, 0.0).to_json()
        word, job_id, *rest = self._scripts.call(
            "create",
            dumps(wish),
            pack_input(job.input_json),
            job.envelope,
            spec.to_json(),
            dumps({"type": "created", **progress}),
            self._meta.value(job.job_id, progress),
            *(job.message or ()),
        )
        return Created(Creation(word.decode()), job_id.decode(), _deliveries(rest))

    def claim_submit(
        self,
        endpoint: str,
        target: str,
        *,
        job_id: str | None,
        lease_s: float,
        rate: Rate,
        durable: tuple[Any, ...] | None = None,
        spread: bool = False,
    ) -> Claim | Refused:
        """Take the queued job whose turn it is, to submit it to `target`; the intent is written with it.

        Users take turns, and within a user's jobs priority goes before age. `job_id` is the job whose message asks:
        where nobody had to wait before, it goes first among its user's. With `spread` a wake message for the rest of
        the line is wanted at once where more may go now, so that others help.

        Where Redis breaks off in the middle of the answer, the same claim is asked for again until its lease is nearly
        over: what was claimed is never left behind for want of an answer. Raises `StoreUnavailable`.
        """
        taken = time.monotonic()
        wish = {
            "endpoint": endpoint,
            "target": target,
            "lease_ms": round(lease_s * 1000),
            "fence": _fence(),
            "correlation_id": secrets.token_hex(12),
            "per_s": rate.per_s,
            "burst": rate.burst,
            "at_once": rate.under_way,
            "spread": spread,
        }
        if job_id is not None:
            wish["id"] = job_id
        try:
            return self._claim_submit(wish, taken, durable)
        except StoreUnavailable as error:
            if not error.sent:
                raise
        patient = Retrying(
            retry=retry_if_exception_type(StoreUnavailable),
            wait=wait_exponential(0.1, max=2),
            stop=stop_after_delay(lease_s * _CLAIM_PATIENCE),
            reraise=True,
        )
        return patient(self._claim_submit, {**wish, "again": True}, taken, durable)

    def _claim_submit(self, wish: dict[str, Any], taken: float, durable: tuple[Any, ...] | None) -> Claim | Refused:
        if durable is None:
            return _claim(self._scripts.call("claim_submit", dumps(wish)), taken, packed=True)
        answer, kept = self._scripts.call_durably("claim_submit", durable, dumps(wish))
        claim = _claim(answer, taken, packed=True)
        return replace(claim, durable=_is_kept(durable, kept)) if isinstance(claim, Claim) else claim

    def accept(self, record: JobRecord, remote_id: str, gap_s: float, now: float) -> Accepted:
        """Record that the cloud took the attempt. Safe to repeat; counts however late it comes."""
        after = record.with_(state=State.WAITING, remote_id=remote_id, submitted=now)
        wish = {
            "id": record.job_id,
            "attempt": record.attempt,
            "target": record.target,
            "remote_id": remote_id,
            "gap_ms": round(gap_s * 1000),
            "event": event_json("state", after, now),
        }
        if not after.spec.ignore_result:
            wish["meta"] = self._meta.of(after, now)
        word, wake_ms, is_open = self._scripts.call("accept", dumps(wish))
        return Accepted(word == b"orphan", word == b"cancelling", _wake(wake_ms), bool(is_open))

    def claim_polls(self, target: str, *, most: int, lease_s: float, rate: Rate, most_rides: int) -> Ride:
        """Take what is due at a target, within its limits. An empty ride may still ask for a later message."""
        taken = time.monotonic()
        wish = {
            "target": target,
            "most": most,
            "lease_ms": round(lease_s * 1000),
            "fence": _fence(),
            "per_s": rate.per_s,
            "burst": rate.burst,
            "most_rides": most_rides,
        }
        fence, now, flight, wake_ms, rows = self._scripts.call("claim_polls", dumps(wish))
        records = tuple(decode_record(job_id.decode(), fields) for job_id, fields in rows)
        return Ride(target, fence.decode(), int(now) / 1e6, taken, flight, _wake(wake_ms), records)

    def settle_ride(
        self,
        ride: Ride,
        decisions: Sequence[tuple[JobRecord, Decision]],
        *,
        last: bool,
        hold_s: float | None = None,
    ) -> Settled:
        """Carry out what was decided on a ride. The last settle gives the ride back and plans the next."""
        place, now = f"poll:{ride.target}", ride.clock()
        wish: dict[str, Any] = {
            "from": place,
            "fence": ride.fence,
            "target": ride.target,
            "items": [self._item(before, decision, now) for before, decision in decisions],
        }
        if last:
            wish["last"] = True
        if hold_s is not None:
            wish["hold_ms"] = round(hold_s * 1000)
        return self._settle(wish)

    def settle(self, claim: Claim, decision: Decision, *, keep: bool = False) -> Settled:
        """Carry out what was decided on one claimed job. `keep` holds the lease on, to deliver the end at once."""
        state = claim.record.state
        place = f"submit:{claim.record.spec.endpoint}" if state in _SUBMITTED else "deliver"
        item = self._item(claim.record, decision, claim.clock())
        if keep:
            item["keep"] = True
        return self._settle({"from": place, "fence": claim.fence, "items": [item]})

    def claim_deliver(self, *, job_id: str | None, lease_s: float) -> Claim | Refused:
        """Take a job whose GPU work is over, to collect its output or to deliver its end."""
        taken = time.monotonic()
        wish: dict[str, Any] = {"lease_ms": round(lease_s * 1000), "fence": _fence()}
        if job_id is not None:
            wish["id"] = job_id
        return _claim(self._scripts.call("claim_deliver", dumps(wish)), taken, packed=False)

    def release(self, claim: Claim, in_s: float = 0.0) -> bool:
        """Give a claimed delivery back; it is due again in `in_s`. False where the lease was lost."""
        wish = {"from": "deliver", "id": claim.record.job_id, "fence": claim.fence, "ms": round(in_s * 1000)}
        return bool(self._scripts.call("release", dumps(wish)))

    def delivered(self, job_id: str) -> bool:
        """Celery has stored the end of the job: nothing more is owed."""
        return bool(self._scripts.call("delivered", job_id, self._meta.key(job_id)))

    def cancel(self, job_id: str, reason: CancelReason = CancelReason.USER) -> tuple[str, tuple[Delivery, ...]]:
        """Ask a job to stop.

        Returns a word (`ended`: it had not been sent; `remote`: the cloud has to be told; `asked`: as soon as it is
        known where it runs; `over`: too late; `gone`: no such job), and deliveries to send.
        """
        event = dumps({"type": "state", "phase": str(reason.end), "message": reason.end.sentence})
        wish = {
            "id": job_id,
            "reason": str(reason),
            "to": str(reason.end),
            "ending": dumps(cancelled_ending(reason)),
            "event": event,
        }
        word, _ms, out = self._scripts.call("cancel", dumps(wish))
        return word.decode(), _deliveries(out)

    def cancel_sent(self, job_id: str) -> tuple[float | None, str]:
        """The cloud was told to cancel: poll at once. Returns the delay of a poll message to send, and its target."""
        ms, target = self._scripts.call("cancel_sent", job_id)
        return _wake(ms), target.decode()

    def adopt_twin(
        self, record: JobRecord, target: str, remote_id: str, now: float
    ) -> tuple[str, tuple[Delivery, ...]]:
        """Keep an earlier attempt that has completed after all; its sibling, if there is one, becomes an orphan.

        Returns a word (`kept`, `same`: it is the job's own, `over`: the job has ended), and deliveries to send.
        """
        after = record.with_(state=State.COLLECTING, target=target, remote_id=remote_id)
        wish = {
            "id": record.job_id,
            "target": target,
            "remote_id": remote_id,
            "event": event_json("twin_kept", after, now),
            "meta": None if after.spec.ignore_result else self._meta.of(after, now),
        }
        word, out = self._scripts.call("adopt_twin", dumps(wish))
        return word.decode(), _deliveries(out)

    def watch(self, job_id: str, for_s: float) -> tuple[float | None, str]:
        """Somebody follows the job for a while. Returns the delay of a poll message to send, if any, and its target."""
        ms, target = self._scripts.call("watch", dumps({"id": job_id, "ms": round(for_s * 1000)}))
        return _wake(ms), target.decode()

    def orphan_done(self, target: str, remote_id: str) -> None:
        """A remote job that no job of ours claims was cancelled."""
        self._scripts.call("orphan_done", f"{target} {remote_id}")

    def nudge(self, job_id: str) -> tuple[float | None, str]:
        """There may be news of a job. Returns the delay of a poll message to send, if any, and its target."""
        ms, target = self._scripts.call("nudge", job_id)
        return _wake(ms), target.decode()

    def hold(self, target: str, op: str, in_s: float) -> None:
        """Make no call of this kind to the target for a while (429)."""
        self._scripts.call("hold", dumps({"target": target, "op": op, "ms": round(in_s * 1000)}))

    def remark(self, record: JobRecord, message: str, now: float) -> bool:
        """Tell something about a job that waits to be submitted. False where it does not any more."""
        after = record.with_(observed=replace(record.observed, message=message))
        wish = {
            "id": record.job_id,
            "attempt": record.attempt,
            "observed": after.observed.to_json(),
            "event": event_json("progress", after, now),
            "meta": None if after.spec.ignore_result else self._meta.of(after, now),
        }
        return bool(self._scripts.call("remark", dumps(wish)))

    def load(self, job_id: str) -> tuple[JobRecord, float]:
        """A job as it stands, and the time by Redis's clock. Raises `JobNotFound`."""
        now, *fields = self._scripts.call("load", job_id)
        if not fields:
            raise JobNotFound(f"There is no job {job_id}: it was never made, or its record has expired.")
        return decode_record(job_id, fields[0]), int(now) / 1e6

    def delivery(self, job_id: str) -> Delivery:
        """A job's envelope, empty where it is gone."""
        envelope: bytes | None = self._scripts.call("envelope", job_id)
        return Delivery(job_id, envelope.decode() if envelope else "")

    def next_at(self, place: str) -> str | None:
        """The job that comes next at a place (`submit:ENDPOINT`, `deliver`), where nobody holds it. Claims nothing."""
        found: Any = self.client.zrange(f"{self.prefix}:due:{place}", 0, 0, withscores=True)
        return next((job_id.decode() for job_id, score in found if score % 1000 == 0), None)

    def sweep(self, *, grace_s: float, most: int, most_resends: int) -> Sweep:
        """One bounded look at everything that is overdue."""
        wish = {
            "grace_ms": round(grace_s * 1000),
            "most": most,
            "most_resends": most_resends,
            "undelivered": dumps({"type": "undelivered"}),
            "expired": {
                "ending": dumps({"error": _EXPIRED}),
                "event": dumps({"type": "state", "phase": "expired", "message": State.EXPIRED.sentence}),
            },
            "deadline": {
                "ending": dumps(cancelled_ending(CancelReason.DEADLINE)),
                "event": dumps({"type": "state", "phase": "timed_out", "message": State.TIMED_OUT.sentence}),
            },
        }
        messages, wakes, lines = self._scripts.call("sweep", dumps(wish))
        texts = [part.decode() for part in messages]
        triples = zip(texts[0::3], texts[1::3], texts[2::3], strict=True)
        return Sweep(tuple(triples), tuple(map(bytes.decode, wakes)), tuple(map(bytes.decode, lines)))

    def note_recovery(self, sent: int, *, calm_s: float) -> Recovered | None:
        """Note how many messages a sweep sent again. Returns what a burst of recovery did, once, when it is over."""
        told = self._scripts.call("note_recovery", dumps({"sent": sent, "calm_ms": round(calm_s * 1000)}))
        if not told:
            return None
        tried, recovered, late, ms = told
        return Recovered(tried, recovered, late, ms / 1000)

    def _settle(self, wish: dict[str, Any]) -> Settled:
        wake_ms, words, out, is_open = self._scripts.call("settle", dumps(wish))
        counted = tuple(word == b"settled" for word in words)
        return Settled(counted, _wake(wake_ms), _deliveries(out), bool(is_open))

    def _item(self, before: JobRecord, decision: Decision, now: float) -> dict[str, Any]:
        """A decision as `commands.lua` reads it: what has not changed is left out."""
        after = decision.record
        item: dict[str, Any] = {
            "id": before.job_id,
            "old": str(before.state),
            "new": str(after.state),
            "to": _place(after, decision.step),
            "in_ms": round(decision.in_s * 1000),
        }
        if after.observed != before.observed:
            item["observed"] = after.observed.to_json()
        if after.retries != before.retries:
            item["retries"] = after.retries
        if after.unanswered != before.unanswered:
            item["unanswered"] = dumps(after.unanswered)
        if after.ending is not None:
            item["ending"] = json.dumps(after.ending)
        sample = sample_of(before, after)
        if sample is not None:
            item["sample"] = [before.target, sample.to_json()]
        if decision.outcome is not None:
            item["outcome"] = [before.target, str(decision.outcome.call), int(decision.outcome.bad)]
        if decision.orphaned:
            item["orphan"] = f"{before.target} {before.remote_id}"
        if decision.output is not None:
            item["output"] = json.dumps(decision.output)
        if decision.step is not Step.POLL:
            item["message"] = True
        if decision.event:
            item["event"] = event_json(decision.event, after, now)
            if after.ending is None and not after.spec.ignore_result:
                item["meta"] = self._meta.of(after, now)
        return item


#: States of a job that is claimed at its endpoint's place for submits.
_SUBMITTED = frozenset({State.SUBMITTING, State.UNKNOWN})


def _place(record: JobRecord, step: Step) -> str:
    match step:
        case Step.SUBMIT:
            return f"submit:{record.spec.endpoint}"
        case Step.POLL:
            return f"poll:{record.target}"
        case Step.DELIVER:
            return "deliver"


def _is_kept(durable: tuple[Any, ...], answer: Any) -> bool:
    """Whether enough confirmed: WAITAOF answers [own disk, replicas' disks], WAIT a number of replicas.

    An error answer (there is no append-only file) confirms nothing.
    """
    if isinstance(answer, RedisError):
        return False
    _command, *wanted, _timeout = durable
    got = answer if isinstance(answer, list) else [answer]
    return all(have >= want for have, want in zip(got, wanted, strict=True))


def _fence() -> int:
    return secrets.randbelow(999) + 1


def _wake(ms: Any) -> float | None:
    return None if int(ms) < 0 else int(ms) / 1000


def _deliveries(pairs: Iterable[bytes]) -> tuple[Delivery, ...]:
    texts = [part.decode() for part in pairs]
    return tuple(Delivery(*pair) for pair in zip(texts[0::2], texts[1::2], strict=True))


def _claim(answer: Sequence[Any], taken: float, *, packed: bool) -> Claim | Refused:
    word, ms, *rest = answer
    if not rest:
        return Refused(Refusal(word.decode()), ms / 1000)
    if word in (b"wait", b"trouble"):
        job_id, wake_ms = rest
        return Refused(Refusal(word.decode()), ms / 1000, job_id.decode(), _wake(wake_ms))
    job_id, fence, now, fields, *payload = rest
    body = payload[0] if payload else None
    if body is not None:
        body = (unpack_input(body) if body else None) if packed else json.loads(body)
    record = decode_record(job_id.decode(), fields)
    wake_s = _wake(payload[1]) if packed else None
    return Claim(record, fence.decode(), int(now) / 1e6, taken, body, lost=word == b"lost", wake_s=wake_s)
