"""Messages carry jobs; the sweeper only mends."""

from __future__ import annotations

import ryla_tasks
from tests.support.crowd import Crowd
from tests.support.fleet import Fleet, eventually


def test_without_any_sweeper_a_lone_job_ends_by_its_own_messages(fleet: Fleet) -> None:
    worker = fleet.worker("--concurrency", "4", "--without-sweeper").wait_ready()
    crowd = Crowd(fleet, 1, 3.0)
    crowd.wait_ended(timeout=15)
    crowd.check_told()
    assert crowd.counter("recovered_wakes") == crowd.counter("recovered_messages") == 0
    assert "sweep." not in worker.text


def test_what_a_worker_without_a_sweeper_leaves_another_one_sweeps(fleet: Fleet) -> None:
    """The submit message is lost before anybody had it: only a sweeper can know of the job."""
    result = ryla_tasks.run_endpoint.delay("echo", {"simulate": {"seconds": 0.2}})
    assert fleet.client.delete(*fleet.client.scan_iter("ryla.jobs*"))
    leaves = fleet.worker("--concurrency", "4", "--without-sweeper").wait_ready()
    sweeps = fleet.worker("--concurrency", "4", RYLA_SWEEP_INTERVAL_S="1").wait_ready()
    assert result.get(timeout=20)
    eventually(lambda: "sweep.sent" in sweeps.text, what="sweep told")
    assert "sweep." not in leaves.text


def test_a_worker_looks_soon_after_its_start(fleet: Fleet) -> None:
    """After a restart of all workers everything is overdue: the first look does not wait for the interval."""
    result = ryla_tasks.run_endpoint.delay("echo", {"simulate": {"seconds": 0.2}})
    assert fleet.client.delete(*fleet.client.scan_iter("ryla.jobs*"))
    fleet.client.zadd("ryla:outbox", dict.fromkeys(fleet.client.zrange("ryla:outbox", 0, -1), 1000))
    worker = fleet.worker("--concurrency", "4", RYLA_SWEEP_INTERVAL_S="6").wait_ready()
    eventually(lambda: "sweep.sent" in worker.text, timeout=2.5, what="the first look")
    assert result.get(timeout=20)
