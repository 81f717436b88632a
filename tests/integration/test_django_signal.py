"""Django's `job_ended`: at least once in the worker, saved once; and the worker's database connections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import ryla_tasks
from ryla_tasks import run_endpoint
from tests.support.django import Calls, Site
from tests.support.fleet import Fleet, WorkerProcess, eventually


@pytest.fixture(scope="module")
def process(django_site: Site) -> Iterator[Calls]:
    with Calls(django_site) as calls:
        yield calls


def opened(worker: WorkerProcess, django_site: Site) -> int:
    """How often the worker has the database open."""
    return sum(file.path == str(django_site.database) for file in psutil.Process(worker.pid).open_files())


def test_many_ends_are_saved_and_connections_go_with_threads(fleet: Fleet, django_site: Site, process: Calls) -> None:
    worker = django_site.worker()
    ids = {run_endpoint.delay("echo", {"n": n, "simulate": {"seconds": 0}}, user_id="7").id for n in range(60)}
    results = [ryla_tasks.app.AsyncResult(one) for one in ids]
    for result in results:
        result.get(timeout=60)
    # No waiting: whoever has the result has been told after the receivers.
    rows = {row["job_id"]: row for row in process("rows")}
    assert {one: (rows[one]["status"], rows[one]["owner"]) for one in ids} == dict.fromkeys(ids, ("completed", "7"))
    # CONN_MAX_AGE is None here, so that each thread may keep one, and no more.
    assert opened(worker, django_site) <= 4


def test_a_worker_that_dies_in_between_tells_again_and_the_row_is_one(
    fleet: Fleet, django_site: Site, process: Calls, tmp_path: Path
) -> None:
    mark = tmp_path / "died"
    first = django_site.worker(SITE_DIE=str(mark))
    job = run_endpoint.delay("echo", {"n": 1}).id
    eventually(lambda: not first.alive(), what="the worker is killed when it has saved")
    assert mark.exists()
    # As if its lease of three minutes had ended.
    fleet.client.zadd("ryla:due:deliver", {job: 0}, xx=True)
    fleet.client.zadd("ryla:outbox", {f"deliver|{job}": 0}, xx=True)
    django_site.worker()
    result = ryla_tasks.app.AsyncResult(job)
    result.get(timeout=60)
    (row,) = [row for row in process("rows") if row["job_id"] == job]
    assert (row["status"], row["heard"]) == ("completed", 2)


def test_a_connection_that_is_too_old_is_replaced_before_a_receiver_has_it(process: Calls, fleet: Fleet) -> None:
    assert process("stale")
