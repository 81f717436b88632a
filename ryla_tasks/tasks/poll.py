"""Poll rides: one message asks after all jobs that are due at its target.

Celery spends 3 to 5 ms of CPU on one self-requeue, so that a message for each poll would cap a process at some 200
polls a second. A ride claims up to 64 jobs in one script, asks for them side by side on pooled connections, and
settles them in batches as the answers come in. With one job in flight it is a task that re-queues itself with a
countdown. What goes wrong in a ride never fails a job's own Celery task.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager

from celery import Celery

from ryla_tasks.crashpoints import crashpoint
from ryla_tasks.errors import ProviderError, RateLimited, RemoteJobNotFound
from ryla_tasks.jobs.lifecycle import Decision, Missing, NoAnswer, Observation, Seen, Surroundings, Trouble, advance
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.remote import RemoteStatus
from ryla_tasks.logs import Log
from ryla_tasks.providers import Provider
from ryla_tasks.store.answers import NO_NEWS, Ride, Settled
from ryla_tasks.tasks.budget import stop_what_is_over
from ryla_tasks.tasks.messages import send_cancel, send_poll
from ryla_tasks.tasks.outcome import follow, may_resubmit, may_retry
from ryla_tasks.tasks.runtime import RIDE_THREADS, Runtime, runtime_of

__all__ = ["ride"]

log = Log(__name__)

#: Jobs of one ride.
MOST_JOBS = 64

#: A ride's lease, and the time by which it has settled every job, answered or not.
LEASE_S = 8.0
RIDE_S = 4.0

#: However long a server asks us to wait: results must be fetched within half an hour of their end.
LONGEST_HOLD_S = 900.0

#: How long a ride waits without any answer. Polls of other targets may need its slot: a target that was slow before
#: gets the full time of a ride in a slot for slow work, and only a moment where there is none free.
QUIET_S = 1.0
QUIET_SLOW_S = 0.3

#: How long answers are gathered before they are settled together.
BATCH_S = 0.25

#: A status answer over this size is not read in a ride: the job goes to its deliver step.
MOST_BYTES = 64 * 1024

#: How long a message goes on with ride after ride while each is full; then polls of other targets may have the slot.
TURN_S = 1.0

#: Where a full ride's last settle wants the next message no later than this, the next ride need not wait for it. The
#: store's pause between rides at a busy target (RIDE_PAUSE_MS) is no longer.
_AT_ONCE_S = 0.1


def ride(app: Celery, target_id: str) -> None:
    """Poll what is due at a target: a ride, and more of them at once while there is more than a ride's worth."""
    runtime = runtime_of(app)
    with runtime.gate.enter(target_id) as admitted:
        if not admitted:
            return
        end, first = time.monotonic() + TURN_S, True
        while True:
            claimed = _claim(runtime, target_id, spread=first)
            first = False
            # Sent before the ride: it may be for another process, to help with what is overdue.
            send_poll(app, target_id, claimed.wake_s)
            if not claimed.records:
                return
            crashpoint("after_poll_claim")
            with _patience(runtime, target_id) as quiet_s:
                wake_s, swift = _ride(app, runtime, claimed, quiet_s)
            full = swift and len(claimed.records) == MOST_JOBS
            if not full or (wake_s is not None and wake_s > _AT_ONCE_S) or time.monotonic() >= end:
                send_poll(app, target_id, wake_s)
                return
            # The next claim takes the place of that message.


def _claim(runtime: Runtime, target_id: str, *, spread: bool) -> Ride:
    target = runtime.target(target_id)
    return runtime.store.claim_polls(
        target_id,
        most=MOST_JOBS,
        lease_s=LEASE_S,
        rate=runtime.status_rate(target),
        most_rides=max(1, target.limits.status_concurrent // RIDE_THREADS),
        spread=spread,
    )


@contextmanager
def _patience(runtime: Runtime, target_id: str) -> Iterator[float]:
    """For how many seconds a ride may hold its slot without an answer."""
    if not runtime.gate.is_slow(target_id):
        yield QUIET_S
        return
    place = f"poll:{target_id}"
    with runtime.lane.room(place) as admitted:
        runtime.lane.caught_up(place, runtime.lane.passed_over(place))
        yield RIDE_S if admitted else QUIET_SLOW_S


def _ride(app: Celery, runtime: Runtime, claimed: Ride, quiet_s: float) -> tuple[float | None, bool]:
    """Ask after the claimed jobs and settle them.

    Returns the delay of the next poll message, if the store wants one, and whether the target answered all swiftly.
    """
    begun = answered = time.monotonic()
    end = begun + RIDE_S
    try:
        provider, endpoint_id = runtime.provider(claimed.target)
    except Exception:
        # The jobs stay claimed until their lease is over, and are polled again then: a key may be set by that time.
        log.exception("poll.no_provider", target=claimed.target)
        return None, False
    callers = runtime.callers(claimed.target)
    asking = {callers.submit(_ask, provider, endpoint_id, record.remote_id): record for record in claimed.records}
    wake_s: float | None = None
    counted, waited_s, cut, limited = 0, 0.0, False, False
    while asking:
        until = min(end, answered + quiet_s)
        done, _ = wait(asking, timeout=min(BATCH_S, until - time.monotonic()), return_when=FIRST_COMPLETED)
        if done:
            answered = time.monotonic()
            until = min(end, answered + quiet_s)
        if done and len(done) < len(asking):
            # Others are about to come in too: settle them together.
            more, _ = wait(asking, timeout=min(BATCH_S, max(0.0, end - time.monotonic())))
            done |= more
        seen = [(asking.pop(future), _observed(future)) for future in done]
        cut = bool(asking) and time.monotonic() >= until
        limited = limited or _limited(seen) is not None
        if cut or limited:
            seen += [(record, NoAnswer()) for record in asking.values()]
            for future in asking:
                future.cancel()
            asking = {}
        waited_s = max(waited_s, _waited(seen, claimed.clock()))
        if seen or not asking:
            settled = _settle(app, runtime, claimed, seen, last=not asking)
            counted, wake_s = counted + sum(settled.counted), settled.wake_s
    slow = cut or time.monotonic() - begun > QUIET_S
    runtime.gate.note(claimed.target, slow=slow)
    runtime.outlooks.refresh(claimed.target, callers, waited_s=waited_s)
    log.debug("poll.ride", target=claimed.target, claimed=len(claimed.records), settled=counted)
    return wake_s, not (slow or limited)


def _ask(provider: Provider, endpoint_id: str, remote_id: str) -> Observation:
    try:
        return Seen(provider.status(endpoint_id, remote_id, max_bytes=MOST_BYTES, patient=False))
    except RemoteJobNotFound:
        return Missing()
    except ProviderError as error:
        return Trouble(error)


def _observed(future: Future[Observation]) -> Observation:
    """What was asked. An error of ours is no observation: one job's must not break the ride of the others."""
    error = future.exception()
    if error is not None:
        log.error("poll.broken", exc_info=error)
        return NoAnswer()
    return future.result()


def _waited(seen: list[tuple[JobRecord, Observation]], now: float) -> float:
    """The longest time, in seconds, that one of these jobs has waited for a GPU worker; 0 where none waits."""
    waiting = (
        now - record.submitted
        for record, observation in seen
        if isinstance(observation, Seen) and observation.job.status is RemoteStatus.IN_QUEUE
    )
    return max(waiting, default=0.0)


def _limited(seen: list[tuple[JobRecord, Observation]]) -> float | None:
    """The seconds for which the target wants no calls, if it said so."""
    for _record, observation in seen:
        if isinstance(observation, Trouble) and isinstance(observation.error, RateLimited):
            return min(observation.error.retry_after or 1.0, LONGEST_HOLD_S)
    return None


def _settle(
    app: Celery, runtime: Runtime, claimed: Ride, seen: list[tuple[JobRecord, Observation]], *, last: bool
) -> Settled:
    """Settle what was seen, and send the messages of the jobs that go on elsewhere."""
    now = claimed.clock()
    hold_s = _limited(seen)
    rate = runtime.status_rate(runtime.target(claimed.target))
    outlook = runtime.outlooks.of(claimed.target)
    stuck = outlook.watch is not None and outlook.watch.stuck
    pairs: list[tuple[JobRecord, Decision]] = []
    for place, (record, observation) in enumerate(seen):
        around = Surroundings(
            claimed.in_flight,
            rate.per_s,
            may_retry(app, record.spec.task),
            random.uniform,
            outlook,
            may_resubmit(app, record.spec.task),
            runtime.way_out(record, now) if stuck else "",
        )
        decision = advance(record, observation, now, around)
        if hold_s is not None and decision.record.state is record.state:
            # A 429 is nobody's fault: the rest is spread behind it at the limit's rate.
            decision = Decision(record, decision.step, hold_s + place / rate.per_s)
        pairs.append((record, decision))
    crashpoint("after_ask_before_settle")
    settled = runtime.store.settle_ride(claimed, pairs, last=last, hold_s=hold_s)
    crashpoint("after_poll_settle_before_message")
    follow(app, settled, {record.job_id: decision for record, decision in pairs})
    for (record, decision), counted in zip(pairs, settled.counted, strict=True):
        if counted and decision.withdraw:
            send_cancel(app, job_id=record.job_id)
    if settled.news is not NO_NEWS or any(decision.over for _record, decision in pairs):
        decided = zip((decision for _record, decision in pairs), settled.counted, strict=True)
        stop_what_is_over(app, runtime, decided, settled.news, now)
    outcomes = [decision.outcome for _record, decision in pairs]
    runtime.breakers.look(claimed.target, outcomes, is_open=settled.breaker_open)
    return settled
