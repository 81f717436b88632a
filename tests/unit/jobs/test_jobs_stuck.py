"""When a target counts as stuck: from a sequence of answers of /health, by time, and never without a queue."""

from __future__ import annotations

import pytest

from ryla_tasks.jobs.health import Health
from ryla_tasks.jobs.stuck import Cause, Patience, Watch, cause_of, judged

PATIENCE = Patience(without_worker_s=480.0, unhealthy_s=120.0)


def health(at: float = 0.0, queued: int = 1, in_progress: int = 0, **workers: int) -> Health:
    return Health(at, {"inQueue": queued, "inProgress": in_progress}, workers)


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        (health(), Cause.NO_WORKER),
        (health(queued=0), None),
        (health(throttled=1), Cause.THROTTLED),
        (health(queued=0, throttled=1), None),
        (health(unhealthy=1), Cause.UNHEALTHY),
        (health(unhealthy=1, throttled=2), Cause.UNHEALTHY),
        (health(unhealthy=1, initializing=1), Cause.UNHEALTHY),
        (health(initializing=1), None),
        (health(initializing=1, throttled=1), None),
        (health(unhealthy=1, ready=1), None),
        (health(throttled=1, running=1), None),
        (health(throttled=3, idle=1), None),
        (health(in_progress=1), None),
    ],
    ids=repr,
)
def test_what_keeps_workers_from_coming(seen: Health, cause: Cause | None) -> None:
    assert cause_of(seen) is cause


def watched(*answers: tuple[float, Health | str], before: Watch | None = None) -> Watch:
    watch = before
    for at, seen in answers:
        watch = judged(watch, seen, at, PATIENCE)
    assert watch is not None
    return watch


def every_30_s(until: float, seen: Health | str) -> list[tuple[float, Health | str]]:
    return [(float(at), seen) for at in range(0, round(until) + 1, 30)]


@pytest.mark.parametrize(
    ("seen", "limit"),
    [(health(), 480), (health(throttled=1), 480), (health(unhealthy=1), 120)],
    ids=["no worker", "throttled", "unhealthy"],
)
def test_a_cause_must_last(seen: Health, limit: float) -> None:
    assert not watched(*every_30_s(limit - 30, seen)).stuck
    last = watched(*every_30_s(limit, seen))
    assert (last.stuck, last.down, last.since) == (True, True, 0.0)
    assert last.verdict == f"stuck: {last.cause}"


def test_an_idle_endpoint_scaled_to_nought_is_healthy_for_ever() -> None:
    watch = watched(*every_30_s(3_600, health(queued=0)))
    assert (watch.cause, watch.stuck, watch.down, watch.verdict) == (None, False, False, "ok")


def test_a_worst_case_cold_start_is_not_stuck() -> None:
    assert not watched(*every_30_s(1_000, health(initializing=1))).stuck


def test_the_first_second_of_a_scale_up_does_not_count_on() -> None:
    watch = watched((0.0, health()), (30.0, health(initializing=1)), *[(60.0 + at, health()) for at in (0, 30)])
    assert (watch.cause, watch.since) == (Cause.NO_WORKER, 60.0)


def test_no_worker_and_throttled_are_one_wait_and_a_crash_begins_another() -> None:
    watch = watched((0.0, health()), (30.0, health(throttled=1)))
    assert (watch.cause, watch.since) == (Cause.THROTTLED, 0.0)
    watch = watched((60.0, health(unhealthy=1)), before=watch)
    assert (watch.cause, watch.since) == (Cause.UNHEALTHY, 60.0)


def test_a_crash_loop_is_seen_through_its_starts() -> None:
    rounds = [(float(at), health(initializing=1) if at % 60 else health(unhealthy=1)) for at in range(0, 121, 30)]
    watch = watched(*rounds)
    assert (watch.cause, watch.since, watch.stuck) == (Cause.UNHEALTHY, 0.0, True)


def test_one_worker_that_comes_ends_it_and_so_does_an_empty_queue() -> None:
    stuck = watched(*every_30_s(480, health()))
    assert watched((510.0, health(running=1)), before=stuck).verdict == "ok"
    assert watched((510.0, health(queued=0)), before=stuck).verdict == "ok"


def test_a_failing_health_is_down_and_proves_nothing_else() -> None:
    first = watched((0.0, "ServerError: 503"))
    assert (first.down, first.stuck, first.verdict) == (True, False, "unreachable")
    waiting = watched(*every_30_s(450, health()))
    failing = watched((480.0, "ServerError: 503"), before=waiting)
    assert (failing.stuck, failing.since, failing.health) == (False, 0.0, waiting.health)
    assert watched((510.0, health()), before=failing).stuck
    assert watched((510.0, health(ready=1)), before=failing).error == ""


def test_a_cause_seen_long_ago_counts_anew() -> None:
    watch = watched((0.0, health()), (2_000.0, health()))
    assert (watch.since, watch.stuck) == (2_000.0, False)


@pytest.mark.parametrize("seen", [health(unhealthy=1), "ServerError: 503", health(ready=2, idle=2)], ids=repr)
def test_a_watch_survives_redis(seen: Health | str) -> None:
    watch = watched((5.0, health(throttled=1)), (35.0, seen))
    assert Watch.from_json(watch.to_json().encode()) == watch


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_has_words_for_the_user_and_for_the_operator(cause: Cause) -> None:
    assert "keeps its place in line" in cause.sentence
    assert cause.advice.endswith(".")
    assert "RunPod" not in cause.sentence


def test_what_was_stuck_and_shows_a_cause_again_is_stuck_sooner_until_a_worker_has_come() -> None:
    was = watched(*every_30_s(480, health()))
    later = 480.0 + 3_600
    again = watched((later, health()), (later + 30, health()), before=was)
    assert (again.stuck, again.relapse) == (False, True), "a scale-up begins with no worker too"
    assert watched((later + 60, health()), before=again).stuck
    up = watched((later + 60, health(ready=1)), before=again)
    assert (up.stuck, up.relapse) == (False, False)
    assert not watched((later + 90, health()), (later + 150, health()), before=up).stuck
    assert Watch.from_json(again.to_json()) == again
