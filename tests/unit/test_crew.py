"""Helpers that submit side by side: as many as the limit and the time of a submit make necessary, and no more."""

from __future__ import annotations

import threading
import time

import pytest

from ryla_tasks.tasks.crew import MOST, Crew, Turn
from tests.support.fleet import eventually


def crew_of(call_s: float) -> Crew:
    """One whose submits have taken so long for a while."""
    crew = Crew("image")
    for _ in range(40):
        crew.note(call_s)
    return crew


class Work:
    """Helpers that are held until `go`."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = threading.Event()
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.begun += 1
        assert self.go.wait(10)


@pytest.mark.parametrize(
    ("call_s", "per_s", "helpers"),
    [(0.0, 90.0, 0), (0.005, 90.0, 0), (0.1, 90.0, 8), (0.1, 5.0, 0), (2.0, 90.0, MOST), (2.0, 2.0, 3)],
)
def test_helpers_are_called_as_the_limit_and_the_time_of_a_submit_make_necessary(
    call_s: float, per_s: float, helpers: int
) -> None:
    work = Work()
    with crew_of(call_s).turn(work) as turn:
        turn.call(per_s)
        assert len(turn.helpers) == helpers
        eventually(lambda: work.begun == helpers)
        work.go.set()


def test_slots_share_their_helpers_and_each_waits_for_its_own() -> None:
    crew, first, second = crew_of(0.1), Work(), Work()
    with crew.turn(first) as one:
        one.call(90.0)
        with crew.turn(second) as two:
            two.call(90.0)
            assert (len(one.helpers), len(two.helpers)) == (8, 0)
        assert not any(helper.done() for helper in one.helpers)
        threading.Timer(0.2, first.go.set).start()
    assert all(helper.done() for helper in one.helpers)
    with crew.turn(second) as two:
        two.call(90.0)
        assert len(two.helpers) == 8, "they are free again"
        second.go.set()


def test_a_helper_that_fails_is_logged_and_is_free_again(caplog: pytest.LogCaptureFixture) -> None:
    crew = crew_of(0.1)

    def broken() -> None:
        raise RuntimeError("broken")

    for _ in range(2):
        with crew.turn(broken) as turn:
            turn.call(90.0)
            assert len(turn.helpers) == 8
    assert "submit.helper_failed endpoint=image" in caplog.text


def test_a_turn_that_fails_waits_for_its_helpers_all_the_same() -> None:
    work = Work()
    begun = time.monotonic()
    threading.Timer(0.2, work.go.set).start()

    def fail() -> None:
        with crew_of(0.1).turn(work) as turn:
            turn.call(90.0)
            turns.append(turn)
            raise KeyError

    turns: list[Turn] = []
    with pytest.raises(KeyError):
        fail()
    assert time.monotonic() - begun >= 0.2
    assert all(helper.done() for turn in turns for helper in turn.helpers)
