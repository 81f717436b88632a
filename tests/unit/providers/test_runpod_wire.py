"""RunPod's JSON: real payloads, and whatever else may come."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ryla_tasks.errors import EndpointNotFound, MalformedAnswer, ProviderError, RemoteJobNotFound
from ryla_tasks.jobs.remote import RemoteJob, RemoteStatus
from ryla_tasks.providers import runpod_wire as wire
from ryla_tasks.providers.base import EndpointHealth, Submitted
from ryla_tasks.providers.excerpt import excerpt, texts_of
from ryla_tasks.providers.http import Answer

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(list(RemoteStatus)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["id", "status", "delayTime", "executionTime", "workerId", "output", "error", "retries"]
FIELDS += ["jobs", "workers", "removed", "stream", "message"]
OBJECTS = st.dictionaries(st.sampled_from(FIELDS) | st.text(), ANY)


def answer(data: object, status: int = 200) -> Answer:
    return Answer(status, {}, data if isinstance(data, bytes) else json.dumps(data).encode())


def parse(data: object) -> RemoteJob:
    return wire.parse_job(answer(data), "asked-u1")


@given(OBJECTS)
@example({"id": "a", "executionTime": float("inf")})
@example({"id": "a", "executionTime": float("nan")})
@example({"id": "\ud800", "status": "\udfff"})
def test_any_object_is_a_job_or_malformed(data):
    try:
        job = parse(data)
    except MalformedAnswer:
        assert not any(isinstance(data.get(name), str) and data[name] for name in ("id", "status"))
        return
    assert isinstance(job.status, RemoteStatus)
    assert job.remote_id
    json.dumps([job.delay_ms, job.execution_ms, job.retries], allow_nan=False)
    for text in (job.remote_id, job.raw_status, job.worker_id or "", job.error or ""):
        text.encode()


@given(OBJECTS)
def test_any_object_is_an_answer_of_the_other_kinds_or_malformed(data):
    for parser, kind in (
        (wire.parse_submitted, Submitted),
        (wire.parse_health, EndpointHealth),
        (wire.parse_purged, int),
        (wire.parse_chunks, wire.Chunks),
    ):
        with contextlib.suppress(MalformedAnswer):
            assert isinstance(parser(answer(data)), kind)


@given(
    st.binary() | ANY.filter(lambda value: not isinstance(value, dict)).map(lambda value: json.dumps(value).encode())
)
@example(b"[" * 100_000)
@example(b'{"id":' + b"9" * 5000 + b"}")
@example(b'{"id":"\xff"}')
def test_anything_else_is_malformed(body):
    for parser in (wire.parse_submitted, wire.parse_health, wire.parse_purged, wire.parse_chunks):
        with pytest.raises(MalformedAnswer):
            parser(answer(body))
    with pytest.raises(MalformedAnswer):
        parse(body)


@given(st.integers(300, 599), st.binary(max_size=2000), st.booleans(), st.text())
def test_any_other_status_is_an_error(status, body, about_job, retry_after):
    error = wire.error_of(Answer(status, {"Retry-After": retry_after}, body), about_job=about_job)
    assert isinstance(error, ProviderError)
    assert error.http_status == status
    assert len(error.body) <= 500
    assert error.retry_after is None or error.retry_after >= 0


def test_a_failed_job_as_runpod_sends_it():
    job = parse(
        {
            "delayTime": 101050,
            "error": "job timed out after 1 retries",
            "executionTime": 42078,
            "id": "abc-u1",
            "retries": 1,
            "status": "FAILED",
            "workerId": "w1",
            "something": "new",
        }
    )
    assert job == RemoteJob(
        remote_id="abc-u1",
        status=RemoteStatus.FAILED,
        raw_status="FAILED",
        delay_ms=101050,
        execution_ms=42078,
        worker_id="w1",
        error="job timed out after 1 retries",
        retries=1,
    )


def test_what_is_absent_is_none():
    job = parse({"id": "a", "status": "CANCELLED"})
    assert (job.delay_ms, job.execution_ms, job.worker_id, job.error, job.output) == (None,) * 5
    assert parse({"id": "a", "delayTime": 0}).delay_ms == 0


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        ("RUNNING", RemoteStatus.IN_PROGRESS),
        ("IN_PROGRESS", RemoteStatus.IN_PROGRESS),
        ("TIMED_OUT", RemoteStatus.TIMED_OUT),
        ("PAUSED", RemoteStatus.OTHER),
    ],
)
def test_statuses(raw, status):
    job = parse({"id": "a", "status": raw})
    assert (job.status, job.raw_status) == (status, raw)


def test_id_or_status_is_enough_and_neither_is_not():
    assert parse({"id": "other"}).status is RemoteStatus.OTHER
    assert parse({"status": "COMPLETED"}).remote_id == "asked-u1"
    with pytest.raises(MalformedAnswer):
        parse({"output": 1})


def test_an_error_is_a_text_or_json():
    text = '{"error_type": "ValueError"}'
    assert parse({"id": "a", "error": text}).error == text
    assert json.loads(parse({"id": "a", "error": {"node": 3, "why": "é"}}).error) == {"node": 3, "why": "é"}


def test_long_numbers_keep_their_digits():
    assert parse(b'{"id":"a","output":{"seed":18446744073709551615}}').output["seed"] == 2**64 - 1


def test_a_truncated_answer_is_no_answer_elsewhere():
    with pytest.raises(MalformedAnswer):
        wire.parse_submitted(Answer(200, {}, b"", truncated=True))


def test_health_as_runpod_sends_it():
    workers = {"idle": 2, "initializing": 0, "ready": 2, "running": 0, "throttled": 0, "unhealthy": 0}
    jobs = {"completed": 5, "failed": 1, "inProgress": 0, "inQueue": 0, "retried": 0}
    health = wire.parse_health(answer({"jobs": jobs, "workers": {**workers, "outdated": "n/a"}}))
    assert (health.jobs, health.workers) == (jobs, workers)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"error":"endpoint not found"}', EndpointNotFound),
        (b'{"message":"Endpoint not found."}', EndpointNotFound),
        (b'{"error":"job not found"}', RemoteJobNotFound),
        (b"endpoint not found", RemoteJobNotFound),
        (b"[1]", RemoteJobNotFound),
        (b"", RemoteJobNotFound),
    ],
)
def test_a_404_about_a_job(body, kind):
    assert type(wire.error_of(answer(body, 404), about_job=True)) is kind
    assert type(wire.error_of(answer(body, 404), about_job=False)) is EndpointNotFound


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        (" 1.5 ", 1.5),
        ("-3", 0),
        ("Thu, 01 Jan 2026 00:00:09 GMT", 9),
        ("Wed, 31 Dec 2025 23:59:00 GMT", 0),
        ("Thu, 01 Jan 2026 01:00:09 +0100", 9),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after(value, seconds):
    assert wire.parse_retry_after(value, now=datetime(2026, 1, 1, tzinfo=UTC)) == seconds


@given(st.text(min_size=8), st.text(max_size=20), st.integers(0, 40))
def test_no_secret_is_in_an_excerpt(secret, around, cut):
    whole = json.dumps({"error": around + secret + around}).encode()
    assert secret not in excerpt(whole, [secret]) or secret in "[hidden]"
    quoted = excerpt((around + secret)[: len(around) + 32 + cut].encode("utf-8", "replace"), [secret])
    assert len(secret) < 32 or secret[:32] not in quoted


def test_a_secret_written_in_another_way_of_json_is_hidden():
    hook = "https://a.b/?c=1&t=token-0123456789"
    body = json.dumps({"error": f"bad webhook {hook}"}).replace("&", "\\u0026").replace("/", "\\/").encode()
    assert excerpt(body, [hook]) == '{"error": "bad webhook [hidden]"}'


def test_the_texts_of_an_input():
    assert sorted(texts_of({"a": ["long enough", "short", 5, {"b": "also long enough"}]})) == [
        "also long enough",
        "long enough",
    ]
