"""One reader for all streams of a process: what it hands out, and what streams do without it."""

from __future__ import annotations

import asyncio
import json

import pytest

import ryla_tasks
from ryla_tasks import Job, run_endpoint
from ryla_tasks.contrib.web import afollow, follow
from ryla_tasks.contrib.web.bell import Bell, Ear, bell_of
from ryla_tasks.store.events import START
from tests.support.fleet import Fleet, eventually

END = b"event: end\n"


def add(fleet: Fleet, job_id: str, number: int, phase: str = "running") -> str:
    event = json.dumps({"type": "progress", "phase": phase, "percent": number, "message": "", "eta_s": None})
    return bytes(fleet.client.xadd(f"ryla:events:{job_id}", {"e": event})).decode()  # type: ignore[arg-type]


def percents(data: bytes) -> list[float]:
    lines = [line.removeprefix(b"data: ") for line in data.splitlines() if line.startswith(b"data: ")]
    return [told["percent"] for told in map(json.loads, lines) if "percent" in told]


def test_each_ear_hears_its_own_job_from_when_it_was_added(fleet: Fleet) -> None:
    bell, first, second = Bell(fleet.client, "ryla"), Ear(), Ear()
    add(fleet, "a", 1)
    bell.add("a", first)
    bell.add("b", second)
    assert first.take(START) == []
    first.caught_up = second.caught_up = True
    position = add(fleet, "a", 2)
    eventually(lambda: first.wait(0.1) or first._events, what="heard")
    late = Ear()
    late.caught_up = True
    bell.add("a", late)
    add(fleet, "a", 3)
    eventually(lambda: late.wait(0.1) or late._events, what="heard by the second")
    assert [event.data["percent"] for event in first.take(position)] == [3]
    assert [event.data["percent"] for event in late.take(START)] == [3]
    assert second.take(START) == []
    for job_id, ear in (("a", first), ("a", late), ("b", second), ("never added", Ear())):
        bell.remove(job_id, ear)
    eventually(lambda: bell._thread is None, what="nobody listens, and the thread ends")


def test_positions_are_numbers_not_text(fleet: Fleet) -> None:
    ear, bell = Ear(), Bell(fleet.client, "ryla")
    ear.caught_up = True
    bell.add("a", ear)
    fleet.client.xadd("ryla:events:a", {"e": '{"type": "x"}'}, id="9-9")
    fleet.client.xadd("ryla:events:a", {"e": '{"type": "y"}'}, id="9-10")
    eventually(lambda: ear.wait(0.1) or len(ear._events) == 2, what="both heard")
    assert [event.type for event in ear.take("9-9")] == ["y"]
    bell.remove("a", ear)


@pytest.mark.parametrize("pages", [1, 40])
def test_many_pages_of_some_jobs_get_every_event_once(fleet: Fleet, pages: int) -> None:
    jobs = [run_endpoint.delay("echo", {"n": number}).id for number in range(4)]

    async def page(job_id: str) -> list[float]:
        return percents(b"".join([chunk async for chunk in afollow(Job(job_id), START)]))

    async def tell() -> None:
        for number in range(1, 100):
            for job_id in jobs:
                await asyncio.to_thread(add, fleet, job_id, number)
        for job_id in jobs:
            await asyncio.to_thread(add, fleet, job_id, 100, "completed")

    async def all_pages() -> list[list[float]]:
        watching = [asyncio.create_task(page(job_id)) for job_id in jobs for _ in range(pages)]
        await asyncio.sleep(0)
        await tell()
        return await asyncio.gather(*watching)

    for seen in asyncio.run(all_pages()):
        assert seen == [0.0, *range(1, 101)]


def test_a_stream_does_without_the_bell(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring that never comes costs time alone."""
    job_id = run_endpoint.delay("echo", {"n": 1}).id
    bell = bell_of(ryla_tasks.app)
    monkeypatch.setattr(bell, "add", lambda *_: None)
    monkeypatch.setattr("ryla_tasks.contrib.web.feed.LOOK_S", 0.1)
    stream = follow(Job(job_id), START)
    assert b"retry" in next(stream)
    assert percents(next(stream)) == [0.0]
    add(fleet, job_id, 50)
    assert percents(next(stream)) == [50]
    add(fleet, job_id, 100, "completed")
    assert percents(next(stream)) == [100]
    assert END in next(stream)
    assert list(stream) == []


def test_what_is_heard_does_not_overtake_what_one_read_did_not_reach(fleet: Fleet) -> None:
    job_id = run_endpoint.delay("echo", {"n": 1}).id
    for number in range(1, 601):
        add(fleet, job_id, number)
    bell, stream = bell_of(ryla_tasks.app), follow(Job(job_id), START)
    seen = percents(next(stream) + next(stream))
    assert seen == [0.0, *range(1, 500)]
    last = add(fleet, job_id, 601, "completed")
    eventually(lambda: bell._positions.get(job_id) == last, what="it is heard")
    assert percents(b"".join(stream)) == [*range(500, 602)]
