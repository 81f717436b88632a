"""Progress of a GPU worker: in order, at most one update a second, none after the end."""

from __future__ import annotations

import asyncio
from typing import Any

from workers.common.reporting import Reporter


def test_updates_are_throttled_in_order_monotone_and_end_with_the_job() -> None:
    sent: list[dict[str, Any]] = []
    under_way = 0

    async def send(update: dict[str, Any]) -> None:
        nonlocal under_way
        under_way += 1
        assert under_way == 1, "two updates at once may overtake each other"
        await asyncio.sleep(0.01)
        sent.append(update)
        under_way -= 1

    async def job() -> None:
        reporter = Reporter(send, every_s=0.1)
        for percent in range(50):
            reporter.tell(percent, "step", node=None, step=percent)
            await asyncio.sleep(0.01)
        reporter.tell(7, "back")
        assert reporter.percent == 49
        await asyncio.sleep(0.15)
        reporter.tell(99, "late")
        await reporter.close()
        count = len(sent)
        reporter.tell(100, "after the end")
        await asyncio.sleep(0.15)
        assert len(sent) == count

    asyncio.run(job())
    percents = [update["percent"] for update in sent]
    assert percents == sorted(percents)
    assert 4 <= len(sent) <= 9
    assert "node" not in sent[0]
    assert sent[-1] in ({"percent": 49.0, "message": "back"}, {"percent": 99.0, "message": "late"})


def test_a_send_that_fails_or_hangs_does_not_fail_the_job() -> None:
    calls = 0

    async def send(_update: dict[str, Any]) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("gone")
        await asyncio.sleep(60)

    async def job() -> None:
        reporter = Reporter(send, every_s=0.01)
        reporter.tell(1)
        await asyncio.sleep(0.05)
        reporter.tell(2)
        await asyncio.sleep(0.05)
        await reporter.close(at_once=True)

    asyncio.run(asyncio.wait_for(job(), 2))
    assert calls == 2
