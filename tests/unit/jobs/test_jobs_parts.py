"""The small parts: verdicts, words without secrets, backoff, cost, states."""

from __future__ import annotations

import json
import time
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_samples import JSONISH, TEXTS, make_spec, remote

from ryla_tasks.errors import EndpointNotFound, NotConnected, RateLimited, RequestRejected, Unauthorized
from ryla_tasks.jobs import verdict
from ryla_tasks.jobs.backoff import retry_delay
from ryla_tasks.jobs.redact import redacted
from ryla_tasks.jobs.remote import RemoteStatus
from ryla_tasks.jobs.states import ENDS, POLLED, Priority, State


def low(least: float, _most: float) -> float:
    return least


def high(_least: float, most: float) -> float:
    return most


class TestVerdict:
    @settings(max_examples=100, deadline=None)
    @given(error=st.none() | TEXTS, output=JSONISH)
    def test_whatever_a_worker_says_the_error_is_plain_json(self, error: str | None, output: Any) -> None:
        seen = remote(RemoteStatus.FAILED, error=error, output=output)
        for found in (verdict.remote_failure(seen), verdict.remote_time_out(seen)):
            text = json.dumps(found.info, allow_nan=False)
            assert len(text) < 30_000
            assert "Signature" not in text

    def test_an_error_in_json_is_taken_apart(self) -> None:
        details = verdict.remote_failure(remote(RemoteStatus.FAILED, error='{"error_type": "X", "n": NaN}')).details
        assert details["error"] == {"error_type": "X", "n": "NaN"}

    def test_an_error_nested_without_end_is_told_as_text(self) -> None:
        assert verdict.remote_failure(remote(RemoteStatus.FAILED, error="[" * 50_000)).details["error"].startswith("[[")

    def test_an_output_that_is_no_json_is_left_out(self) -> None:
        nested: list[Any] = []
        for _ in range(50_000):
            nested = [nested]
        for output in (nested, {"loss": float("nan")}):
            details = verdict.remote_failure(remote(RemoteStatus.FAILED, output=output)).details
            assert details["output"] == "not JSON that can be kept"

    @pytest.mark.parametrize(
        ("error", "sentence", "category"),
        [
            (Unauthorized("no"), "The GPU endpoint refused our API key.", "fatal"),
            (EndpointNotFound("no"), "The GPU endpoint does not exist.", "permanent"),
            (RateLimited("no"), "The GPU endpoint is too busy.", "transient"),
            (NotConnected("no"), "The GPU endpoint could not be reached.", "transient"),
            (RequestRejected("no"), "The GPU endpoint did not take the job.", "permanent"),
        ],
    )
    def test_a_refusal_says_who_refused_what(self, error: Any, sentence: str, category: str) -> None:
        found = verdict.submit_refused(error)
        assert (str(found), found.info["category"]) == (sentence, category)
        assert found.details["error_type"] == type(error).__name__

    def test_a_lost_submit_says_what_is_known_of_it(self) -> None:
        assert verdict.submit_unknown(None).details == {"error": "the worker process ended during the submit"}
        assert verdict.submit_unknown(NotConnected("x", http_status=502)).details["http_status"] == 502


class TestRedacted:
    @pytest.mark.parametrize(
        ("text", "fit"),
        [
            ("nothing to hide", "nothing to hide"),
            ("at https://u:p@b.example:9000/k?X-Amz-Signature=s. ok", "at https://b.example:9000/... ok"),
            ('{"url":"s3://bucket/key"}', '{"url":"s3://bucket/..."}'),
            ("data:image/png;base64," + "iVBORw0KGgo" * 40, "data:image/png;base64,[base64]"),
            ("word " * 1_000, ("word " * 1_000)[:2_000] + "..."),
        ],
    )
    def test_urls_files_and_length_are_cut(self, text: str, fit: str) -> None:
        assert redacted(text) == fit

    def test_a_long_text_takes_no_long_time(self) -> None:
        """A pattern that is tried from each letter anew would take minutes for these."""
        began = time.perf_counter()
        for text in ("a" * 200_000, "a." * 100_000, "a:/" * 70_000, "://" * 70_000, "ab-" * 70_000):
            assert len(redacted(text)) <= 2_003
        assert time.perf_counter() - began < 2.0


class TestBackoff:
    def test_it_doubles_up_to_the_longest(self) -> None:
        spec = make_spec(backoff_s=1.0, backoff_max_s=16.0, jitter=False)
        assert [retry_delay(spec, retries, draw=low) for retries in (0, 1, 2, 3, 4, 5, 10_000)] == [
            1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0,
        ]  # fmt: skip

    def test_jitter_is_full(self) -> None:
        spec = make_spec(backoff_s=1.0, backoff_max_s=16.0)
        assert (retry_delay(spec, 3, draw=low), retry_delay(spec, 3, draw=high)) == (0.0, 8.0)

    def test_jobs_refused_together_do_not_come_back_together(self) -> None:
        spec, draw = make_spec(), Random(7).uniform
        delays = {retry_delay(spec, 0, retry_after=7.0, draw=draw) for _ in range(50)}
        assert len(delays) == 50
        assert all(7.0 <= delay <= 8.0 for delay in delays)

    def test_a_short_retry_after_does_not_shorten_the_backoff(self) -> None:
        spec = make_spec(backoff_s=1.0, backoff_max_s=16.0, jitter=False)
        assert retry_delay(spec, 4, retry_after=0.0, draw=high) == 16.0

    @settings(max_examples=100, deadline=None)
    @given(
        retries=st.integers(0, 200),
        asked=st.none() | st.floats(0, 1e6),
        share=st.floats(0, 1),
        jitter=st.booleans(),
        backoff=st.floats(0.1, 3_600),
    )
    def test_it_is_never_shorter_than_asked_nor_longer_than_set(
        self, retries: int, asked: float | None, share: float, jitter: bool, backoff: float
    ) -> None:
        spec = make_spec(backoff_s=backoff, backoff_max_s=3_600.0, jitter=jitter)
        delay = retry_delay(spec, retries, retry_after=asked, draw=lambda least, most: least + share * (most - least))
        assert (asked or 0.0) <= delay <= max(3_600.0, (asked or 0.0) + backoff)


class TestStates:
    def test_the_ends(self) -> None:
        assert {state for state in State if state.ended} == ENDS
        assert {state.value for state in ENDS} == {"completed", "failed", "cancelled", "timed_out", "expired"}
        assert not ENDS & POLLED

    def test_remote_ends_are_not_unknown_words(self) -> None:
        assert {status.value for status in RemoteStatus if status.ended} == {
            "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT",
        }  # fmt: skip

    def test_the_higher_priority_goes_first(self) -> None:
        assert Priority.HIGH.level < Priority.NORMAL.level < Priority.LOW.level
        assert {priority.level for priority in Priority} <= {0, 3, 6, 9}
