"""The verdict table, row by row, from recorded payloads (tests/data/verdicts), and the page that is made from it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_samples import JSONISH, SUBMITTED, TEXTS, make_record, remote

from ryla_tasks import errors
from ryla_tasks.artifacts import decode_output
from ryla_tasks.errors import Category, JobFailed, ProviderError
from ryla_tasks.jobs.absence import absence_of, endpoint_absence_of
from ryla_tasks.jobs.remote import RemoteStatus
from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.verdict import remote_failure, reported
from ryla_tasks.jobs.verdicts import (
    CRASHES,
    Absent,
    Failure,
    Next,
    Refused,
    RemoteEnded,
    Reported,
    StatusFailed,
    SubmitLost,
    judge,
)
from ryla_tasks.jobs.verdicts.page import page
from ryla_tasks.jobs.verdicts.report import read_report
from ryla_tasks.jobs.verdicts.row import Row
from ryla_tasks.jobs.verdicts.table import ROWS
from ryla_tasks.providers import was_not_accepted
from ryla_tasks.providers.http import Answer
from ryla_tasks.providers.runpod_wire import error_of, parse_job

ROOT = Path(__file__).parents[3]
RECORDED = {file.stem: json.loads(file.read_text()) for file in sorted((ROOT / "tests/data/verdicts").glob("*.json"))}


def failure_of(kind: str, payload: Any) -> Failure:
    """What the engine makes of a recorded payload: the same functions read it."""
    match kind:
        case "http":
            return _called(payload["op"], error_of(_answer(payload), about_job=payload["op"] == "status"))
        case "network":
            error = getattr(errors, payload["error"])("as told") if payload["error"] else None
            return _called(payload["op"], error)
        case "status":
            return RemoteEnded(parse_job(Answer(200, {}, json.dumps(payload).encode()), "r-1"))
        case "output":
            return Reported(payload["error"], payload.get("details"))
        case "comfyui":
            return Reported(payload)
        case _:
            return _absent(**payload)


def _answer(payload: Any) -> Answer:
    body = payload["body"] if isinstance(payload["body"], str) else json.dumps(payload["body"])
    return Answer(payload["status"], payload["headers"], body.encode())


def _called(op: str, error: ProviderError | None) -> Failure:
    if op == "status":
        assert error is not None
        return StatusFailed(error)
    return Refused(error) if error is not None and was_not_accepted(error) else SubmitLost(error)


def _absent(
    *,
    age_s: float,
    state: str = "waiting",
    missing_s: float | None = None,
    seen_s: float | None = None,
    status: str = "",
    ttl_s: float = 86_400.0,
    endpoint: bool = False,
) -> Absent:
    now = SUBMITTED + age_s
    record = make_record(
        State(state),
        spec_ttl_s=ttl_s,
        observed_status=status,
        observed_missing_since=0.0 if missing_s is None else now - missing_s,
        observed_seen_at=0.0 if seen_s is None else now - seen_s,
    )
    return Absent(endpoint_absence_of(record, now) if endpoint else absence_of(record, now))


def row_of(failure: Failure) -> Row:
    verdict = judge(failure)
    found = [
        row
        for seam in ROWS
        for row in seam.rows
        if (row.code, row.category, row.next, row.sentence)
        == (verdict.code, verdict.category, verdict.next, verdict.sentence)
    ]
    assert found, verdict
    return found[0] if len(found) == 1 else next(row for row in found if row.when.matches(failure, read_report()))


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_failure_has_its_verdict(name: str) -> None:
    recorded = RECORDED[name]
    assert recorded["source"]
    verdict, expected = judge(failure_of(recorded["kind"], recorded["payload"])), recorded["expect"]
    assert (verdict.code, str(verdict.category), str(verdict.next)) == (
        expected["code"],
        expected["category"],
        expected["next"],
    )
    if "nodes" in expected:
        assert list(verdict.nodes) == expected["nodes"]


def test_every_row_is_tested_from_a_recorded_payload() -> None:
    tested = {id(row_of(failure_of(recorded["kind"], recorded["payload"]))) for recorded in RECORDED.values()}
    assert [row.code for seam in ROWS for row in seam.rows if id(row) not in tested] == []


def test_each_row_says_what_it_means_and_where_that_is_known_from() -> None:
    for seam in ROWS:
        codes = [row.code for row in seam.rows]
        assert len(set(codes)) == len(codes), seam.title
        for row in seam.rows:
            assert row.source
            assert str(row.when)
            assert row.sentence.endswith(".")
            assert not row.crash or row.next is Next.RETRY


def test_of_failed_remote_jobs_those_are_tried_again_that_may_go_better() -> None:
    """The category alone decides in the engine, so that the table must not say otherwise."""
    (rows,) = (seam.rows for seam in ROWS if any(row.code == "worker_error" for row in seam.rows))
    for row in rows:
        assert (row.next is Next.RETRY) == (row.category in (Category.TRANSIENT, Category.RECOVERABLE)), row.code


def test_a_verdict_becomes_the_job_s_error() -> None:
    recorded = RECORDED["worker_comfyui_missing_model"]
    error = remote_failure(parse_job(Answer(200, {}, json.dumps(recorded["payload"]).encode()), "r-1"))
    assert str(error) == "A model that the workflow needs is not on the GPU worker."
    assert (error.info["code"], error.category) == ("missing_model", Category.FATAL)
    assert error.details["nodes"] == recorded["expect"]["nodes"]
    assert error.details["worker_id"] == "l3tmhzcz3zr4va"


def test_an_error_in_a_completed_job_s_output_has_the_same_verdict() -> None:
    recorded = RECORDED["worker_comfyui_completed_with_error"]
    with pytest.raises(JobFailed) as caught:
        decode_output(recorded["payload"], expected=1)
    assert (caught.value.info["code"], caught.value.category) == ("out_of_memory", Category.RECOVERABLE)
    assert caught.value.details["nodes"] == recorded["expect"]["nodes"]


def test_the_node_details_hold_no_presigned_url() -> None:
    said = "Node Type: LoadImage, Node ID: 1, Message: GET https://bucket.example/k?X-Amz-Signature=5ec2e7: 403"
    (node,) = reported("Job processing failed", [f"Workflow execution error: {said}"]).details["nodes"]
    assert node["reason"] == "GET https://bucket.example/... 403"


@pytest.mark.parametrize(
    "text",
    [
        "Workflow validation failed:\n• Node 2 (errors): " + "[" * 19_000,
        "Workflow validation failed:\n• Node 2 (errors): " + "-" * 19_000 + "1",
        "Workflow validation failed:\n• Node 2 (errors): [{[]: 1}]",
        "Cannot execute because node X does not exist. Raw response: " + '{"error":' * 5_000,
        json.dumps({"error_type": 4, "error_message": {"error_message": {"error": [[[["x"]]]]}}}),
    ],
)
def test_words_that_look_like_a_structure_and_are_none_do_no_harm(text: str) -> None:
    assert judge(RemoteEnded(remote(RemoteStatus.FAILED, error=text))).nodes == ()


def test_a_user_s_own_output_is_not_taken_for_words_of_the_worker() -> None:
    output = {"caption": "a poster that says CUDA out of memory", "images": ["job timed out after 1 retries"]}
    assert judge(RemoteEnded(remote(RemoteStatus.FAILED, error="no", output=output))).code == "worker_error"


@settings(max_examples=200, deadline=None)
@given(error=st.none() | TEXTS | JSONISH, more=JSONISH)
def test_whatever_is_reported_there_is_one_verdict_that_can_be_kept(error: Any, more: Any) -> None:
    verdict = judge(Reported(error, more))
    json.dumps(asdict(verdict), allow_nan=False)
    assert verdict.sentence


def test_the_crashes_are_those_that_an_input_can_cause() -> None:
    assert {"comfyui_died", "gpu_broken", "worker_crashed"} == CRASHES


def test_the_page_of_errors_is_not_stale() -> None:
    """Make it anew with `python -m ryla_tasks.jobs.verdicts > docs/errors.md`."""
    assert (ROOT / "docs/errors.md").read_text() == page()
