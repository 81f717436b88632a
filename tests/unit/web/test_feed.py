"""A stream of events, whatever comes between: each event once, in order, and one end."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryla_tasks.contrib.web.feed import BEAT_S, LONGEST_S, Answer, Look, Read, Send, Wait, Watch, position_of, steps
from ryla_tasks.jobs.states import State
from ryla_tasks.store.events import START, Event


def events_of(count: int, *, said: bool = True) -> list[Event]:
    """A job's events; the last one says that it has ended, unless that was lost."""
    events = [Event(f"{number}-0", "progress", {"phase": "running", "percent": number}) for number in range(1, count)]
    return [*events, Event(f"{count}-0", "end", {"phase": "completed"})] if said else events


@dataclass
class World:
    """A job's stream, a clock, and a Redis that may be away; driven by numbers."""

    events: list[Event]
    numbers: list[int]
    now: float = 0.0
    there: int = 0
    watched: int = 0
    sent: list[bytes] = field(default_factory=list)

    def draw(self) -> int:
        """The next number; when they are used up everything is there, and Redis, too."""
        return self.numbers.pop() if self.numbers else -1

    def read(self, after: str) -> list[Event] | None:
        number = self.draw()
        if number == 0:
            return None
        self.there = len(self.events) if number < 0 else min(len(self.events), self.there + number % 4)
        at = 0 if after == START else int(after.split("-")[0])
        return self.events[at : self.there]

    def look(self) -> State | None:
        if self.draw() == 0:
            return None
        return State.COMPLETED if self.there == len(self.events) else State.RUNNING

    def answer(self, step: object) -> Answer:
        match step:
            case Read(after):
                return self.read(after)
            case Look():
                return self.look()
            case Watch():
                self.watched += 1
            case Wait(seconds):
                assert 0 < seconds <= BEAT_S
                self.now += max(0.05, seconds * (abs(self.draw()) % 8) / 7)
            case Send(data):
                self.sent.append(data)
        return None

    def connect(self, after: str, *, held: bool) -> None:
        """One connection, to its end."""
        script = steps(after, held=held, clock=lambda: self.now)
        answer: Answer = None
        while True:
            try:
                step = script.send(answer)
            except StopIteration:
                return
            answer = self.answer(step)


def frames(sent: list[bytes]) -> list[dict[str, str]]:
    blocks = b"".join(sent).decode().split("\n\n")
    return [dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":")) for block in blocks]


@settings(deadline=None)
@given(
    st.integers(1, 12),
    st.lists(st.integers(0, 40), max_size=60),
    st.booleans(),
    st.booleans(),
)
def test_every_event_comes_once_and_in_order_and_one_end(
    count: int, numbers: list[int], held: bool, said: bool
) -> None:
    world = World(events_of(count, said=said), numbers)
    last, told = START, []
    for _connection in range(400):
        world.sent.clear()
        world.connect(last, held=held)
        told += [frame for frame in frames(world.sent) if "data" in frame]
        last = next((frame["id"] for frame in reversed(told) if "id" in frame), START)
        if any(frame.get("event") == "end" for frame in told):
            break
        world.now += 2  # the browser comes back
    *before, end = told
    assert [frame["id"] for frame in before] == [event.position for event in world.events]
    assert json.loads(end["data"]) == {"status": "completed"}
    assert all("event" not in frame for frame in before)
    assert world.watched > 0


def test_a_silent_stream_has_a_beat_and_an_end_and_tells_that_somebody_watches() -> None:
    world = World([Event("1-0", "progress", {"phase": "running"})], [])
    world.look = lambda: State.RUNNING  # type: ignore[method-assign]
    world.connect(START, held=True)
    assert LONGEST_S <= world.now < LONGEST_S + BEAT_S
    beats = [data for data in world.sent if data == b":\n\n"]
    assert len(beats) >= LONGEST_S / BEAT_S / 2
    assert world.watched >= LONGEST_S / 15


def test_a_job_that_is_gone_ends_the_stream() -> None:
    world = World([], [])
    world.look = lambda: ""  # type: ignore[method-assign,assignment,return-value]
    world.connect(START, held=True)
    assert frames(world.sent)[-2] == {"event": "end", "data": '{"status":"gone"}'}


@pytest.mark.parametrize(
    "said", [None, "", "x", "1", "1-", "-1", "1-2-3", "$", "+", "1-1\n", "٣-1", "9" * 21 + "-0", f"{2**64}-0"]
)
def test_only_a_position_is_a_position(said: str | None) -> None:
    assert position_of(said) == START
    assert position_of("1700000000000-3") == "1700000000000-3"
