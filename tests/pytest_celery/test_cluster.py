"""Two workers as a cluster of pytest-celery: they share, and they may be killed and restarted."""

from __future__ import annotations

from pytest_celery import CeleryTestSetup

from ryla_tasks.jobs.states import State
from tests.support.crowd import Crowd
from tests.support.fleet import Fleet

JOBS = 40


def check_all_done_once(crowd: Crowd) -> None:
    crowd.wait_ended()
    crowd.check_told()
    crowd.check_submitted_once()
    assert crowd.states() == {State.COMPLETED: JOBS}


def test_two_workers_share_the_jobs(celery_setup: CeleryTestSetup, fleet: Fleet) -> None:
    assert celery_setup.ready(control=True, docker=True)
    assert len(celery_setup.app.control.ping(timeout=5.0, limit=2)) == 2
    crowd = Crowd(fleet, JOBS, 0.5)
    check_all_done_once(crowd)
    for worker in celery_setup.worker_cluster:
        worker.assert_log_exists("submit.accepted")
        worker.assert_log_exists("job.completed")


def test_a_killed_worker_is_replaced_by_the_other_and_works_again_after_its_restart(
    celery_setup: CeleryTestSetup, fleet: Fleet
) -> None:
    assert celery_setup.ready(docker=True)
    first, second = celery_setup.worker_cluster
    crowd = Crowd(fleet, JOBS, 3.0)
    crowd.wait_submitted()
    first.kill()
    assert first.container.status == "exited"
    check_all_done_once(crowd)
    first.restart()
    second.kill()
    Crowd(fleet, 1, 0.2)
    crowd.wait_ended(JOBS + 1)


def test_all_workers_are_killed_and_restarted_in_mid_run(celery_setup: CeleryTestSetup, fleet: Fleet) -> None:
    assert celery_setup.ready(docker=True)
    crowd = Crowd(fleet, JOBS, 3.0)
    crowd.wait_submitted()
    for worker in celery_setup.worker_cluster:
        worker.kill()
    for worker in celery_setup.worker_cluster:
        worker.restart()
    check_all_done_once(crowd)


def test_the_broker_is_killed_and_restarted_in_mid_run(celery_setup: CeleryTestSetup, fleet: Fleet) -> None:
    """It is the result backend too; both workers live through it."""
    assert celery_setup.ready(docker=True)
    crowd = Crowd(fleet, JOBS, 3.0)
    crowd.wait_submitted()
    celery_setup.broker.kill()
    celery_setup.broker.restart()
    check_all_done_once(crowd)
    assert [worker.container.status for worker in celery_setup.worker_cluster] == ["running"] * 2
