"""The job store: what the engine and the handles ask of Redis, one method for each operation in `commands/`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import redis
from redis.exceptions import RedisError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from ryla_tasks.errors import JobError, JobNotFound, StoreUnavailable
from ryla_tasks.jobs.ending import described
from ryla_tasks.jobs.lifecycle import Decision, cancelled_ending
from ryla_tasks.jobs.progress import progress_of
from ryla_tasks.jobs.record import CancelReason, JobRecord
from ryla_tasks.jobs.states import State
from ryla_tasks.store.answers import (
    NO_NEWS,
    Accepted,
    Candidate,
    Claim,
    Created,
    Creation,
    Delivery,
    NewJob,
    Rate,
    Recovered,
    Refused,
    Ride,
    Settled,
    Sweep,
    claim_of,
    deliveries_of,
    is_kept,
    news_of_claim,
    news_of_settle,
    wake_of,
)
from ryla_tasks.store.budgets import NO_BUDGETS, Budgets, Terms
from ryla_tasks.store.codec import Meta, decode_record, dumps, event_json, pack_input
from ryla_tasks.store.items import settle_item
from ryla_tasks.store.scripts import Scripts

__all__ = ["JobStore"]

#: For how much of its lease a claim whose answer was lost is asked for again.
_CLAIM_PATIENCE = 0.8

#: For so long the operator is not told again that a job of the same endpoint cannot be delivered.
_ALERT_QUIET_MS = 3_600_000

_EXPIRED = {"type": "JobExpired", "message": "The job was not started in time.",
            "info": {"code": "start_by", "category": "permanent", "details": None}}  # fmt: skip


class JobStore:
    """Jobs in Redis. Safe for use by many threads; every method is one round trip."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        prefix: str,
        meta: Meta,
        budgets: Budgets = NO_BUDGETS,
        keep_input_bytes: int = 0,
    ) -> None:
        self.client = client
        self.prefix = prefix
        self._meta = meta
        self._budgets = budgets
        self._keep_input_bytes = keep_input_bytes
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
            idem = _idem(spec.user_id, spec.idempotency_key)
            wish |= {"idem": idem, "digest": job.digest, "alias": job.in_canvas}
        if not job.recorded:
            wish["unrecorded"] = True
        if spec.only:
            wish["only"] = dumps(spec.only)
        if spec.cells:
            words = [[name, "kept" if name in spec.kept else "new"] for name in spec.cells]
            wish |= {"cells": words, "expected_s": spec.expected_run_s}
        if spec.sheet:
            wish |= {"sheet": spec.sheet, "cell": spec.cell}
        if job.other_inputs:
            wish["others"] = len(job.other_inputs)
        inputs = [pack_input(text) for text in (job.input_json, *job.other_inputs)]
        # What cells are made of, their sheet keeps.
        if not spec.sheet and sum(map(len, inputs)) <= self._keep_input_bytes:
            wish["keeps"] = True
        progress = progress_of(record, 0.0).to_json()
        word, job_id, *rest = self._scripts.call(
            "create",
            dumps(wish),
            inputs[0],
            job.envelope,
            spec.to_json(),
            dumps({"type": "created", **progress}),
            self._meta.value(job.job_id, progress),
            *inputs[1:],
            *(job.message or ()),
        )
        return Created(Creation(word.decode()), job_id.decode(), deliveries_of(rest))

    def claim_submit(
        self,
        endpoint: str,
        candidates: Sequence[Candidate],
        *,
        job_id: str | None,
        lease_s: float,
        durable: tuple[Any, ...] | None = None,
        spread: bool = False,
        health_s: float = 30.0,
        checked: bool = False,
    ) -> Claim | Refused:
        """Take the queued job whose turn it is, to submit it to one of the candidates; the intent is written with it.

        It goes to the first of them that it has not left before, that has what it needs, and that is fit: its breaker
        is closed, and it is not known to be down. Where none is fit, it waits for the first of them.

        Users take turns, and within a user's jobs priority goes before age. `job_id` is the job whose message asks:
        where nobody had to wait before, it goes first among its user's. With `spread` a wake message for the rest of
        the line is wanted at once where more may go now, so that others help. A retry is refused with CHECK where
        nothing of the last `health_s` seconds is known of its target's health, unless that was `checked` just now.
        Where a candidate has `terms`, a job reserves there what it is expected to cost, and those that a budget forbids
        are ended in the same step.

        Where Redis breaks off in the middle of the answer, the same claim is asked for again until its lease is nearly
        over: what was claimed is never left behind for want of an answer. Raises `StoreUnavailable`.
        """
        taken = time.monotonic()
        wish: dict[str, Any] = {
            "endpoint": endpoint,
            "targets": [_candidate(one) for one in candidates],
            "lease_ms": round(lease_s * 1000),
            "fence": _fence(),
            "correlation_id": secrets.token_hex(12),
            "spread": spread,
            "health_ms": round(health_s * 1000),
        }
        if checked:
            wish["checked"] = True
        if job_id is not None:
            wish["id"] = job_id
        if any(one.terms for one in candidates):
            wish["money"] = self._budgets.wish(endpoint)
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
        kept = None
        if durable is None:
            answer = self._scripts.call("claim_submit", dumps(wish))
        else:
            answer, kept = self._scripts.call_durably("claim_submit", durable, dumps(wish))
        answer, news = news_of_claim(wish["endpoint"], answer)
        claim = claim_of(answer, taken, packed=True)
        if durable is not None and isinstance(claim, Claim):
            claim = replace(claim, durable=is_kept(durable, kept))
        return claim if news is NO_NEWS else replace(claim, news=news)

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
        return Accepted(word == b"orphan", word == b"cancelling", wake_of(wake_ms), bool(is_open))

    def claim_polls(
        self, target: str, *, most: int, lease_s: float, rate: Rate, most_rides: int, spread: bool = False
    ) -> Ride:
        """Take what is due at a target, within its limits. An empty ride may still ask for a later message; with
        `spread` so does one that leaves as much again overdue, so that another process helps."""
        taken = time.monotonic()
        wish = {
            "target": target,
            "most": most,
            "lease_ms": round(lease_s * 1000),
            "fence": _fence(),
            "per_s": rate.per_s,
            "burst": rate.burst,
            "most_rides": most_rides,
            "spread": spread,
        }
        fence, now, flight, wake_ms, rows = self._scripts.call("claim_polls", dumps(wish))
        records = tuple(decode_record(job_id.decode(), fields) for job_id, fields in rows)
        return Ride(target, fence.decode(), int(now) / 1e6, taken, flight, wake_of(wake_ms), records)

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
            "items": [settle_item(before, decision, now, self._meta, self._budgets) for before, decision in decisions],
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
        item = settle_item(claim.record, decision, claim.clock(), self._meta, self._budgets)
        if keep:
            item["keep"] = True
        return self._settle({"from": place, "fence": claim.fence, "items": [item]})

    def claim_deliver(self, *, job_id: str | None, lease_s: float) -> Claim | Refused:
        """Take a job whose GPU work is over, to collect its output or to deliver its end."""
        taken = time.monotonic()
        wish: dict[str, Any] = {"lease_ms": round(lease_s * 1000), "fence": _fence()}
        if job_id is not None:
            wish["id"] = job_id
        return claim_of(self._scripts.call("claim_deliver", dumps(wish)), taken, packed=False)

    def prolong(self, claim: Claim, lease_s: float) -> Claim | None:
        """Hold a claimed delivery for longer, from now on. None where the lease was lost."""
        taken = time.monotonic()
        wish = {"id": claim.record.job_id, "fence": claim.fence, "lease_ms": round(lease_s * 1000)}
        fence: bytes = self._scripts.call("prolong", dumps({**wish, "new_fence": _fence()}))
        return replace(claim, fence=fence.decode(), now=claim.now + taken - claim.taken, taken=taken) if fence else None

    def release(self, claim: Claim, in_s: float = 0.0) -> bool:
        """Give a claimed delivery back; it is due again in `in_s`. False where the lease was lost."""
        wish = {"from": "deliver", "id": claim.record.job_id, "fence": claim.fence, "ms": round(in_s * 1000)}
        return bool(self._scripts.call("release", dumps(wish)))

    def unheard(self, claim: Claim, first_s: float, most: int) -> int:
        """A receiver of the job's end has failed: give the claim back for `first_s`, doubled with each time.

        Returns how often that has happened by now; at `most` the claim is kept. 0 where the lease was lost.
        """
        wish = {"id": claim.record.job_id, "fence": claim.fence, "ms": round(first_s * 1000), "most": most}
        return int(self._scripts.call("unheard", dumps(wish)))

    def delivered(self, job_id: str) -> bool:
        """Celery has stored the end of the job: nothing more is owed."""
        return bool(self._scripts.call("delivered", job_id, self._meta.key(job_id)))

    def cancel(
        self, job_id: str, reason: CancelReason = CancelReason.USER, error: JobError | None = None
    ) -> tuple[str, tuple[Delivery, ...]]:
        """Ask a job to stop; `error` is what it then ends with, where that is not the reason's own.

        Returns a word (`ended`: it had not been sent; `remote`: the cloud has to be told; `asked`: as soon as it is
        known where it runs; `over`: too late; `gone`: no such job), and deliveries to send.
        """
        event = dumps({"type": "state", "phase": str(reason.end), "message": reason.end.sentence})
        wish = {
            "id": job_id,
            "reason": str(reason),
            "to": str(reason.end),
            "ending": dumps(described(error) if error else cancelled_ending(reason)),
            "event": event,
        }
        word, _ms, out = self._scripts.call("cancel", dumps(wish))
        return word.decode(), deliveries_of(out)

    def cancel_sent(self, job_id: str) -> tuple[float | None, str]:
        """The cloud was told to cancel: poll at once. Returns the delay of a poll message to send, and its target."""
        ms, target = self._scripts.call("cancel_sent", job_id)
        return wake_of(ms), target.decode()

    def adopt_twin(
        self, record: JobRecord, target: str, remote_id: str, now: float, terms: Terms | None = None
    ) -> tuple[str, tuple[Delivery, ...]]:
        """Keep an earlier attempt that has completed after all; its sibling, if there is one, becomes an orphan.

        `terms` are what jobs cost at its target. Returns a word (`kept`, `same`: it is the job's own, `over`: the job
        has ended, or has taken a fallback since), and deliveries to send.
        """
        after = record.with_(state=State.COLLECTING, target=target, remote_id=remote_id)
        wish = {
            "id": record.job_id,
            "target": target,
            "remote_id": remote_id,
            "fallbacks": len(record.fallbacks),
            "event": event_json("twin_kept", after, now),
            "meta": None if after.spec.ignore_result else self._meta.of(after, now),
            "price": terms.price if terms else "",
        }
        word, out = self._scripts.call("adopt_twin", dumps(wish))
        return word.decode(), deliveries_of(out)

    def watch(self, job_id: str, for_s: float) -> tuple[float | None, str]:
        """Somebody follows the job for a while. Returns the delay of a poll message to send, if any, and its target."""
        ms, target = self._scripts.call("watch", dumps({"id": job_id, "ms": round(for_s * 1000)}))
        return wake_of(ms), target.decode()

    def orphan_done(self, target: str, remote_id: str) -> None:
        """A remote job that no job of ours claims was cancelled."""
        self._scripts.call("orphan_done", f"{target} {remote_id}")

    def nudge(self, job_id: str) -> tuple[float | None, str]:
        """There may be news of a job. Returns the delay of a poll message to send, if any, and its target."""
        ms, target = self._scripts.call("nudge", job_id)
        return wake_of(ms), target.decode()

    def take_call(
        self, target: str, op: str, rate: Rate, *, lease_s: float, wanted: str, patient: bool = False
    ) -> str | None:
        """Take one call of a kind at a target, within its limits; returns what `give_call` gives back.

        None where there may be none now: `wanted`, a member of the outbox, is moved there to when there may be one;
        if it is `patient`, behind all of that sort that was turned away before.
        """
        wish = {
            "target": target,
            "op": op,
            "per_s": rate.per_s,
            "burst": rate.burst,
            "at_once": rate.under_way,
            "lease_ms": round(lease_s * 1000),
            "wanted": wanted,
            "patient": patient,
            "pass": secrets.token_hex(8),
        }
        given: bytes | None = self._scripts.call("take_call", dumps(wish))
        return given.decode() if given else None

    def give_call(self, target: str, op: str, given: str) -> None:
        """A call that was taken is over."""
        self._scripts.call("give_call", dumps({"target": target, "op": op, "pass": given}))

    def spend_call(self, target: str, op: str, rate: Rate) -> None:
        """Count a call that is made in any case, so that others wait for it."""
        self._scripts.call("spend_call", dumps({"target": target, "op": op, "per_s": rate.per_s}))

    def hold(self, target: str, op: str, in_s: float) -> None:
        """Make no call of this kind to the target for a while (429)."""
        self._scripts.call("hold", dumps({"target": target, "op": op, "ms": round(in_s * 1000)}))

    def in_line(self, endpoint: str, start: int, most: int) -> tuple[list[JobRecord], float]:
        """Jobs that are due to be submitted at an endpoint, `most` of them from a place on; and the time."""
        now, rows = self._scripts.call("in_line", dumps({"endpoint": endpoint, "start": start, "most": most}))
        return [decode_record(job_id.decode(), fields) for job_id, fields in rows], int(now) / 1e6

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

    def made_under(self, user_id: str, idempotency_key: str) -> tuple[str, str] | None:
        """The digest of the wish and the id of the job that was made under a user's idempotency key, while its record
        is there."""
        try:
            held: Any = self.client.get(f"{self.prefix}:idem:{_idem(user_id, idempotency_key)}")
            digest, job_id = held.decode().split(" ", 1) if held else ("", "")
            if not job_id or not self.client.exists(f"{self.prefix}:job:{job_id}"):
                return None
        except RedisError as error:
            raise StoreUnavailable(f"Redis did not answer: {error}") from error
        return digest, job_id

    def delivery(self, job_id: str) -> Delivery:
        """A job's envelope, empty where it is gone."""
        envelope: bytes | None = self._scripts.call("envelope", job_id)
        return Delivery(job_id, envelope.decode() if envelope else "")

    def next_at(self, place: str) -> str | None:
        """The job that comes next at a place (`submit:ENDPOINT`, `deliver`), where nobody holds it. Claims nothing."""
        found: Any = self.client.zrange(f"{self.prefix}:due:{place}", 0, 0, withscores=True)
        return next((job_id.decode() for job_id, score in found if score % 1000 == 0), None)

    def sweep(self, *, grace_s: float, most: int, most_resends: int, worker: str = "") -> Sweep:
        """One bounded look at everything that is overdue; `worker` is noted as a process that lives."""
        wish = {
            "grace_ms": round(grace_s * 1000),
            "most": most,
            "most_resends": most_resends,
            "undelivered": dumps({"type": "undelivered"}),
            "alert_quiet_ms": _ALERT_QUIET_MS,
            "expired": {
                "ending": dumps({"error": _EXPIRED}),
                "event": dumps({"type": "state", "phase": "expired", "message": State.EXPIRED.sentence}),
            },
            "deadline": {
                "ending": dumps(cancelled_ending(CancelReason.DEADLINE)),
                "event": dumps({"type": "state", "phase": "timed_out", "message": State.TIMED_OUT.sentence}),
            },
        }
        if worker:
            wish["worker"] = worker
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
        wake_ms, words, out, is_open, told = self._scripts.call("settle", dumps(wish))
        counted = tuple(word == b"settled" for word in words)
        return Settled(counted, wake_of(wake_ms), deliveries_of(out), bool(is_open), news_of_settle(told))


#: States of a job that is claimed at its endpoint's place for submits.
_SUBMITTED = frozenset({State.SUBMITTING, State.UNKNOWN})


def _candidate(one: Candidate) -> dict[str, Any]:
    rate = one.rate
    wish = {"id": one.target, "per_s": rate.per_s, "burst": rate.burst, "at_once": rate.under_way}
    return {**wish, "terms": one.terms.wish()} if one.terms else wish


def _fence() -> int:
    return secrets.randbelow(999) + 1


def _idem(user_id: str, idempotency_key: str) -> str:
    """The name under which a key is held. The length keeps apart what users with a colon in their id could make look
    alike."""
    return f"{len(user_id)}:{user_id}:{idempotency_key}"
