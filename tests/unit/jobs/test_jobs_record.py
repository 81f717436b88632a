"""A record is read as it was written, also by a process of another version."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_samples import OBSERVED, SPECS, make_record, make_spec

from ryla_tasks.jobs.record import JobSpec, Observed, OnUnknown
from ryla_tasks.jobs.states import Priority, State

EXTRA = st.dictionaries(st.text(min_size=1, max_size=8).map("new_".__add__), st.none() | st.integers() | st.text())


@settings(max_examples=100, deadline=None)
@given(spec=SPECS, extra=EXTRA)
def test_a_spec_is_read_as_it_was_written(spec: JobSpec, extra: dict[str, object]) -> None:
    text = spec.to_json()
    for written in (text, text.encode(), json.dumps({**json.loads(text), **extra})):
        read = JobSpec.from_json(written)
        assert read == spec
        assert [type(getattr(read, field.name)) for field in fields(spec)] == [
            type(getattr(spec, field.name)) for field in fields(spec)
        ]


@settings(max_examples=100, deadline=None)
@given(observed=OBSERVED, extra=EXTRA)
def test_what_was_observed_is_read_as_it_was_written(observed: Observed, extra: dict[str, object]) -> None:
    text = observed.to_json()
    assert Observed.from_json(text) == Observed.from_json(text.encode()) == observed
    assert Observed.from_json(json.dumps({**json.loads(text), **extra})) == observed


def test_defaults_are_not_written() -> None:
    assert json.loads(make_spec().to_json()) == {"task": "ryla.generate_image", "kind": "image", "endpoint": "image"}
    assert Observed().to_json() == "{}"


def test_a_zero_that_is_no_default_is_written() -> None:
    spec = JobSpec.from_json(make_spec(seed=0, expected_images=0, max_retries=0, jitter=False).to_json())
    assert (spec.seed, spec.expected_images, spec.max_retries, spec.jitter) == (0, 0, 0, False)
    assert Observed.from_json(Observed(execution_ms=0, step=0).to_json()) == Observed(execution_ms=0, step=0)


@pytest.mark.parametrize("nothing", ["", b"", "{}", b"{}"])
def test_nothing_observed_yet_is_read_from_nothing(nothing: str | bytes) -> None:
    assert Observed.from_json(nothing) == Observed()


def test_words_come_back_as_their_types() -> None:
    spec = JobSpec.from_json(make_spec(priority=Priority.HIGH, tags=("a", "b")).to_json())
    assert spec.priority is Priority.HIGH
    assert spec.on_unknown is OnUnknown.FAIL
    assert spec.tags == ("a", "b")


def test_a_record_is_changed_by_copy_only() -> None:
    record = make_record()
    changed = record.with_(state=State.RUNNING)
    assert (record.state, changed.state, changed.job_id) == (State.WAITING, State.RUNNING, record.job_id)
    with pytest.raises(FrozenInstanceError):
        record.state = State.FAILED  # type: ignore[misc]
