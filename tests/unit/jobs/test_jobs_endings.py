"""An end is the same error or result wherever it is read: from the record, and through Celery's JSON results."""

from __future__ import annotations

import json
from typing import Any

import pytest
from celery import Celery
from celery.backends.base import Backend
from hypothesis import given, settings
from hypothesis import strategies as st
from job_samples import NOW, PLAIN, TEXTS, make_record, one_of

from ryla_tasks import errors
from ryla_tasks.errors import Category, JobError, JobFailed, JobTimedOut, OutputInvalid, ServerError
from ryla_tasks.jobs.ending import described, error_ending, raised, result_ending
from ryla_tasks.jobs.lifecycle import OutcomeUnknown, OutputBad, advance


def kinds_of(root: type[JobError]) -> list[type[JobError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in kinds_of(child))]


KINDS = [kind for kind in kinds_of(JobError) if kind.__module__ == errors.__name__]
DETAILS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def backend() -> Backend:
    """A result backend as ours is set: JSON only."""
    return Backend(Celery("t", set_as_current=False), serializer="json", accept=["json"])


def through_celery(backend: Backend, error: JobError) -> Any:
    """What a web process gets of an error that a worker raised."""
    stored = backend.encode(backend.prepare_exception(error))
    return backend.exception_to_python(backend.decode(stored))


def is_same(one: JobError, other: JobError) -> bool:
    return (type(one), str(one), one.args, one.info) == (type(other), str(other), other.args, other.info)


@settings(max_examples=100, deadline=None)
@given(kind=one_of(KINDS), message=TEXTS, details=DETAILS, category=one_of(list(Category)))
def test_an_error_is_the_same_after_the_record(
    kind: type[JobError], message: str, details: Any, category: Category
) -> None:
    ending = json.loads(json.dumps(error_ending(kind, message, category=category, details=details), allow_nan=False))
    error = raised("job-1", ending)
    assert is_same(error, kind(message, {**ending["error"]["info"], "job_id": "job-1"}))
    assert (error.job_id, error.category, error.details) == ("job-1", category, details)
    assert error.info["code"] == kind.code
    assert described(error)["error"]["type"] == kind.__name__


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_the_same_after_celerys_json(backend: Backend, kind: type[JobError]) -> None:
    ending = error_ending(
        kind, "Něco se nepovedlo", code="odd", category=Category.RECOVERABLE, details={"n": [1, None]}
    )
    error = raised("job-1", ending)
    assert is_same(through_celery(backend, error), error)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_without_a_message_says_what_its_kind_means(backend: Backend, kind: type[JobError]) -> None:
    error = through_celery(backend, kind())
    assert type(error) is kind
    assert str(error) == (kind.__doc__ or "").split("\n")[0]
    assert (error.job_id, error.category, error.details) == ("", Category.PERMANENT, None)


@pytest.mark.parametrize(
    "decision",
    [
        advance(make_record(), OutcomeUnknown(ServerError("502", endpoint_id="ep", http_status=502)), NOW, PLAIN),
        advance(make_record(), OutputBad(OutputInvalid("no", {"details": {"wanted": 2, "got": 1}})), NOW, PLAIN),
    ],
    ids=["submit unknown", "output bad"],
)
def test_what_a_job_ends_with_is_what_the_web_process_gets(backend: Backend, decision: Any) -> None:
    error = raised("job-1", json.loads(json.dumps(decision.record.ending)))
    assert is_same(through_celery(backend, error), error)


def test_raising_an_end_leaves_the_end_as_it_is() -> None:
    ending = error_ending(JobTimedOut, "late")
    raised("job-1", ending).info["code"] = "changed"
    assert ending == error_ending(JobTimedOut, "late")


def test_an_error_type_of_a_newer_version_is_a_job_error() -> None:
    ending = {"error": {"type": "JobEaten", "message": "gone", "info": {"code": "eaten"}}}
    error = raised("job-1", ending)
    assert (type(error), str(error), error.info) == (JobError, "gone", {"code": "eaten", "job_id": "job-1"})


def test_a_result_is_kept_as_it_is() -> None:
    assert result_ending({"seed": 3}) == {"result": {"seed": 3}}


def test_codes_tell_the_kinds_apart() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)
    assert JobFailed.code == "failed"
