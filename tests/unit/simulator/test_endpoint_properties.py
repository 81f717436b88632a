"""Whatever is asked of an endpoint, in whatever order, its books balance."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ryla_tasks.simulator.config import EndpointConfig, ScalerType, WorkerStart
from ryla_tasks.simulator.endpoint import Endpoint
from ryla_tasks.simulator.jobs import JobStatus, SimJob
from ryla_tasks.simulator.programs import PROGRAMS

SIMULATE = st.sampled_from(
    [{}, {"seconds": 0}, {"seconds": 3}, {"fail": "no"}, {"crash": 1}, {"crash": 9}, {"never_end": True}, {"bad": 1}]
)
STEP = st.one_of(
    st.tuples(st.just("submit"), SIMULATE, st.booleans()),
    st.tuples(st.sampled_from(["cancel", "retry"]), st.integers(0, 30)),
    st.tuples(st.just("purge")),
    st.tuples(st.just("advance"), st.floats(0, 60)),
    st.tuples(st.just("maximum"), st.integers(0, 4)),
    st.tuples(st.just("start"), st.sampled_from(WorkerStart)),
)


class Driver:
    def __init__(self, config: EndpointConfig) -> None:
        self.endpoint = Endpoint(config, PROGRAMS["echo"], Random(0))
        self.endpoint.open(0.0)
        self.now = 0.0
        self.jobs: list[SimJob] = []
        self.ended: dict[str, JobStatus] = {}
        self.highest_max = config.workers_max

    def do(self, step: tuple[Any, ...]) -> None:
        getattr(self, step[0])(*step[1:])
        self.check()

    def submit(self, simulate: dict[str, Any], low: bool) -> None:
        number = len(self.jobs)
        job = SimJob(f"{number}", {"simulate": simulate}, self.now, 300.0, 50.0, low_priority=low)
        self.jobs.append(job)
        self.endpoint.submit(job, self.now)

    def cancel(self, number: int) -> None:
        if number < len(self.jobs):
            self.endpoint.cancel(self.jobs[number], self.now)

    def retry(self, number: int) -> None:
        retryable = (JobStatus.FAILED, JobStatus.TIMED_OUT)
        if number < len(self.jobs) and self.jobs[number].status in retryable and f"{number}" in self.endpoint.jobs:
            self.ended.pop(f"{number}", None)
            self.endpoint.retry(self.jobs[number], self.now)

    def purge(self) -> None:
        self.endpoint.purge(self.now)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.endpoint.advance(self.now)

    def maximum(self, workers: int) -> None:
        self.highest_max = max(self.highest_max, workers)
        self.reconfigure(workers_max=workers, workers_min=min(workers, self.endpoint.config.workers_min))

    def start(self, start: WorkerStart) -> None:
        self.reconfigure(worker_start=start)

    def reconfigure(self, **changes: Any) -> None:
        self.endpoint.reconfigure(self.endpoint.config.model_copy(update=changes), PROGRAMS["echo"], self.now)

    def check(self) -> None:
        health = self.endpoint.health()
        by_status = [job.status for job in self.endpoint.jobs.values()]
        assert health["jobs"]["inQueue"] == by_status.count(JobStatus.IN_QUEUE)
        assert health["jobs"]["inProgress"] == by_status.count(JobStatus.IN_PROGRESS) == health["workers"]["running"]
        assert all(count >= 0 for count in health["workers"].values())
        assert self.endpoint.fleet.alive <= self.highest_max
        assert not (health["workers"]["idle"] and health["jobs"]["inQueue"]), "an idle worker beside a waiting job"
        for job in self.jobs:
            if not job.live:
                assert self.ended.setdefault(job.id, job.status) is job.status, "an end changed"


@settings(max_examples=150, deadline=None, print_blob=True)
@given(
    steps=st.lists(STEP, max_size=40),
    scaler=st.sampled_from(ScalerType),
    workers=st.tuples(st.integers(0, 2), st.integers(2, 4)),
    cold_start=st.sampled_from([0.0, 7.0]),
)
def test_the_books_balance_and_an_end_is_an_end(
    steps: list[tuple[Any, ...]], scaler: ScalerType, workers: tuple[int, int], cold_start: float
) -> None:
    config = EndpointConfig(
        endpoint_id="ep", program="echo", scaler=scaler, workers_min=workers[0], workers_max=workers[1],
        cold_start_s=cold_start, run_s=10, retention_s=120, ttl_keeps_queued=True,
    )  # fmt: skip
    driver = Driver(config)
    for step in steps:
        driver.do(step)


@settings(max_examples=60, deadline=None, print_blob=True)
@given(simulates=st.lists(SIMULATE, min_size=1, max_size=12), pauses=st.lists(st.floats(0.1, 20), min_size=1))
def test_asking_more_often_changes_nothing(simulates: list[dict[str, Any]], pauses: list[float]) -> None:
    config = EndpointConfig(endpoint_id="ep", program="echo", run_s=10, workers_max=2, retention_s=10_000)
    often, once = Driver(config), Driver(config)
    for simulate in simulates:
        often.do(("submit", simulate, False))
        once.do(("submit", simulate, False))
    for pause in pauses:
        often.do(("advance", pause))
    often.do(("advance", max(500 - often.now, 0)))
    once.do(("advance", often.now))
    assert [job.status_fields(often.now) for job in often.jobs] == [job.status_fields(once.now) for job in once.jobs]
