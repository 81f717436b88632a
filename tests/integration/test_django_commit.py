"""Django: jobs are enqueued when a transaction commits, never after a rollback, and those that were not are found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from ryla_tasks import Job
from tests.support.django import Browser, Calls, Site
from tests.support.fleet import Fleet

SAID = {"task": "generate_image", "template": "z-image-turbo", "prompt": "a hut"}


@pytest.fixture(scope="module")
def process(django_site: Site) -> Iterator[Calls]:
    """Its Redis time-outs are short, and it has no outbox."""
    with Calls(django_site, RYLA_REDIS_TIMEOUT_S="1") as calls:
        yield calls


@pytest.fixture(scope="module")
def with_outbox(django_site: Site) -> Iterator[Calls]:
    web = '{"OUTBOX": "tests.support.django_site.receivers.awaited"}'
    with Calls(django_site, SITE_WEB=web, RYLA_REDIS_TIMEOUT_S="1") as calls:
        yield calls


@pytest.fixture(autouse=True)
def clean(fleet: Fleet, process: Calls) -> None:
    process("clear")


def test_the_record_is_written_at_the_commit(process: Calls) -> None:
    seen = process("enqueue", user_id="1")
    assert seen == {"id": seen["id"], "before": False, "after": True, "row": True}
    assert Job.get(seen["id"]).record.spec.user_id == "1"


def test_a_rollback_leaves_no_job(process: Calls, fleet: Fleet) -> None:
    seen = process("enqueue", commit=False)
    assert seen == {"id": seen["id"], "before": False, "after": False, "row": False}
    assert fleet.client.exists("ryla:idx:all") == 0


def test_bad_input_is_told_before_the_commit(process: Calls, fleet: Fleet) -> None:
    for wrong in ({"priority": "urgent"}, {"deadline_s": -1}):
        with pytest.raises(AssertionError, match=f"InvalidJob: {next(iter(wrong))}"):
            process("enqueue", **wrong)
    assert process("rows") == []


def test_without_a_transaction_it_is_enqueued_at_once(process: Calls) -> None:
    assert not Job.get(process("outside")).status.ended


def test_a_key_stands_for_the_job_that_was_made_before(process: Calls) -> None:
    first = process("enqueue", idempotency_key="k", user_id="1")["id"]
    assert process("enqueue", idempotency_key="k", user_id="1", row=False)["id"] == first
    assert process("enqueue", idempotency_key="k", user_id="2")["id"] != first
    # A request whose answer was lost is made again: the same row, whether its job was enqueued or not.
    again = process("wish", user="1", said=SAID, key="w")
    assert process("wish", user="1", said=SAID, key="w") == again
    assert [row["job_id"] for row in process("rows") if row["title"] == "a hut"] == [again]
    with pytest.raises(AssertionError, match="IdempotencyConflict"):
        process("wish", user="1", said={**SAID, "prompt": "another"}, key="w")
    assert [row["title"] for row in process("rows") if row["job_id"] == again] == ["a hut"]


def test_a_receiver_that_raises_leaves_neither_row_nor_job(process: Calls, fleet: Fleet) -> None:
    with pytest.raises(AssertionError, match="PermissionError"):
        process("wish", user="1", said={**SAID, "prompt": "refused by the site"})
    assert process("rows") == []
    assert fleet.client.exists("ryla:idx:all") == 0


def test_where_redis_is_away_at_the_commit_the_row_stays_and_the_error_is_raised(process: Calls, fleet: Fleet) -> None:
    fleet.redis.stop()
    try:
        lost = process("enqueue_and_lose")
    finally:
        fleet.redis.start()
    assert lost["error"] in ("StoreUnavailable", "EnqueueUnknown")
    assert f"job.not_enqueued job={lost['id']}" in process.log.read_text()
    assert [row["job_id"] for row in process("rows")] == [lost["id"]]


def test_the_outbox_enqueues_what_was_left_and_only_that(with_outbox: Calls, fleet: Fleet) -> None:
    there = with_outbox("enqueue")["id"]
    fleet.redis.stop()
    try:
        lost = with_outbox("enqueue_and_lose")
        away = with_outbox("outbox")
    finally:
        fleet.redis.start()
    assert away["problem"].startswith("Redis cannot be reached")
    assert with_outbox("outbox") == {"out": "1 there, 1 enqueued, 0 refused, 0 too old", "err": "", "problem": ""}
    assert with_outbox("outbox")["out"] == "2 there, 0 enqueued, 0 refused, 0 too old"
    assert {Job.get(one).status for one in (there, lost["id"])} == {"queued"}


def test_what_waits_longer_than_records_are_kept_is_told_and_left_alone(with_outbox: Calls, fleet: Fleet) -> None:
    old = with_outbox("enqueue")["id"]
    with_outbox("age", job_id=old, days=8)
    fleet.forget_jobs()
    said = with_outbox("outbox")
    assert said["out"] == "0 there, 0 enqueued, 0 refused, 1 too old"
    assert said["problem"] == "1 can get no job"
    assert old in said["err"]
    assert fleet.client.exists("ryla:idx:all") == 0


def test_without_an_outbox_its_command_says_what_that_is(process: Calls) -> None:
    assert "RYLA_WEB['OUTBOX']: is not set" in process("outbox")["problem"]


def test_a_view_under_atomic_requests(django_site: Site, process: Calls) -> None:
    with django_site.served("gunicorn") as url:
        ann = Browser(url, "ann")
        taken = ann.get(f"{url}/own").json()["id"]
        assert ann.get(f"{url}/own?fail=1").status_code == 500
        assert [row["job_id"] for row in process("rows")] == [taken]
        assert Job.get(taken).status == "queued"
        answer: requests.Response = ann.call("POST", "jobs", json=SAID)
        assert answer.status_code == 202
        (row,) = [row for row in process("rows") if row["title"] == "a hut"]
        assert row["job_id"] == answer.json()["id"]
        assert len(ann.call("GET", "jobs").json()["jobs"]) == 2
