"""What a browser may ask for, whichever framework is around it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryla_tasks import Job, run_endpoint
from ryla_tasks.contrib.web import Rules, Visitor, enqueue, job_of, read_body, store_upload, visitor_of
from ryla_tasks.contrib.web.uploads import owns
from ryla_tasks.errors import (
    ConfigurationError,
    IdempotencyConflict,
    InvalidJob,
    JobNotFound,
    NotSignedIn,
    PayloadTooLarge,
)
from tests.support.fleet import Fleet
from tests.support.pictures import picture_bytes

ANN, BEN, STAFF = Visitor("ann"), Visitor("ben"), Visitor("staff", sees_all=True)
WISH = {"task": "generate_image", "template": "z-image-turbo", "prompt": "a lighthouse"}
SWAP = {"task": "swap_face", "face": {"url": "https://pictures.example/face.png"}}


def sheet(angle: dict[str, Any]) -> dict[str, Any]:
    """A sheet with an angle that has arguments of its own, instead of what `WISH` has."""
    return {
        "task": "make_character_sheet",
        "template": None,
        "prompt": "x",
        "image": {"url": "https://pictures.example/a.png"},
        "angles": [{"angle": "front", **angle}],
    }


@pytest.mark.parametrize("known", ["ann", Visitor("ann")])
def test_who_asks(known: Any) -> None:
    assert visitor_of(known) == ANN
    assert visitor_of(7) == Visitor("7")


@pytest.mark.parametrize("known", [None, ""])
def test_a_stranger_is_refused(known: Any) -> None:
    with pytest.raises(NotSignedIn, match="Sign in first"):
        visitor_of(known)


@pytest.mark.parametrize(
    "known", [True, 1.5, object(), "x" * 129, Visitor(""), "a\ud800", pytest.param(10**5000, id="huge")]
)
def test_a_hook_that_gives_nonsense_is_the_apps_mistake(known: Any) -> None:
    with pytest.raises(ConfigurationError, match="hook that says who asks"):
        visitor_of(known)


@given(st.binary(max_size=60) | st.dictionaries(st.text(max_size=4), st.integers()).map(json.dumps).map(str.encode))
def test_any_body_is_an_object_or_one_clear_error(body: bytes) -> None:
    rules = Rules(most_body=50)
    expected = PayloadTooLarge if len(body) > 50 else InvalidJob
    if expected is InvalidJob and is_object(body):
        assert read_body(body, "application/json; charset=utf-8", rules) == json.loads(body)
        return
    with pytest.raises(expected) as raised:
        read_body(body, "application/json", rules)
    assert raised.value.field == "body"


def is_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
def test_only_json_is_taken(kind: str) -> None:
    with pytest.raises(InvalidJob, match="Content-Type"):
        read_body(b"{}", kind, Rules())


def test_deep_json_is_no_traceback() -> None:
    with pytest.raises(InvalidJob, match="is not JSON"):
        read_body(b"[" * 200_000, "application/json", Rules())


def test_the_job_is_the_visitors_and_nobody_elses(fleet: Fleet) -> None:
    job = enqueue(ANN, WISH, Rules(), idempotency_key="k1")
    assert job.record.spec.user_id == "ann"
    assert job_of(ANN, job.id).id == job.id
    assert job_of(STAFF, job.id).id == job.id
    for who, job_id in ((BEN, job.id), (ANN, "nonsense"), (ANN, "")):
        with pytest.raises(JobNotFound):
            job_of(who, job_id)
    nobodys = run_endpoint.delay("echo", {"n": 1})
    with pytest.raises(JobNotFound):
        job_of(ANN, nobodys.id)
    # The key is the user's own.
    assert enqueue(ANN, WISH, Rules(), idempotency_key="k1").id == job.id
    assert enqueue(BEN, WISH, Rules(), idempotency_key="k1").id != job.id
    with pytest.raises(IdempotencyConflict):
        enqueue(ANN, {**WISH, "prompt": "another"}, Rules(), idempotency_key="k1")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"task": "run_endpoint"}, "task"),
        ({"task": None}, "task"),
        ({"task": ["generate_image"]}, "task"),
        ({"user_id": "ben"}, "user_id"),
        ({"priority": "high"}, "priority"),
        ({"max_cost_usd": 1000}, "max_cost_usd"),
        ({"previous": {"artifacts": []}}, "previous"),
        ({"workflow": {}, "template": None}, "workflow"),
        ({"template": "flux-dev", "lora": "bens.safetensors"}, "lora"),
        ({"template": "flux-dev", "lora": ["bens.safetensors"]}, "lora"),
        ({"prompt": ""}, "prompt"),
        ({"nonsense": 1}, "nonsense"),
        ({"previous_job": "nonsense"}, "previous_job"),
        ({"previous_job": {"id": 1}}, "previous_job"),
        ({"previous_job": "\ud800"}, "previous_job"),
        ({"self": 1}, "self"),
        ({"task": "train_lora", "prompt": "x"}, "prompt"),
        (sheet({"lora": "bens.safetensors"}), "angles.0.lora"),
        (sheet({"template": "flux-dev"}), "angles.0.template"),
        (sheet({"workflow": {}}), "angles.0.workflow"),
        (sheet({"previous": {}}), "angles.0.previous"),
        (sheet({"images": []}), "angles.0.images"),
        (sheet({"self": 1}), "self"),
    ],
)
def test_what_is_not_a_browsers_to_say(fleet: Fleet, more: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidJob) as raised:
        enqueue(ANN, {**WISH, **more}, Rules())
    assert raised.value.field == field
    assert fleet.client.exists("ryla:idx:all") == 0


def test_the_app_has_the_last_word(fleet: Fleet) -> None:
    def prepare(visitor: Visitor, task: str, given: dict[str, Any]) -> dict[str, Any]:
        assert (visitor, task) == (ANN, "generate_image")
        return {**given, "priority": "high", "deadline_s": 60, "tags": ["web"], "user_id": "ben"}

    spec = enqueue(ANN, WISH, Rules(prepare=prepare)).record.spec
    assert (spec.user_id, spec.priority, spec.deadline_s, spec.tags) == ("ann", "high", 60, ("web",))


def test_uploads_are_kept_under_their_owner(fleet: Fleet) -> None:
    mine = store_upload(ANN, picture_bytes(), Rules())
    assert store_upload(ANN, picture_bytes(), Rules()).key == mine.key
    assert owns(ANN, mine.key)
    assert not owns(BEN, mine.key)
    given = {"key": mine.key, "content_type": mine.content_type}
    assert enqueue(ANN, {**SWAP, "image": given}, Rules()).status == "queued"
    with pytest.raises(InvalidJob) as raised:
        enqueue(BEN, {**SWAP, "image": given}, Rules())
    assert raised.value.field == "image"


@pytest.mark.parametrize("key", ["", None, 7, "x", "../x/y", "image/nonsense/1/a.png", "uploads//x.png", "uploads/x"])
def test_a_key_of_nothing_is_nobodys(fleet: Fleet, key: Any) -> None:
    assert not owns(ANN, key)
    with pytest.raises(InvalidJob, match="no artifact of yours") as raised:
        enqueue(
            ANN, {"task": "train_lora", "trigger_word": "x", "images": [{"url": "https://x/y"}, {"key": key}]}, Rules()
        )
    assert raised.value.field == "images.1"


@pytest.mark.parametrize(("data", "word"), [(b"", "unusable"), (b"GIF89a", "unusable"), (b"<svg/>", "is no PNG")])
def test_only_whole_images_are_kept(fleet: Fleet, data: bytes, word: str) -> None:
    with pytest.raises(InvalidJob, match=word):
        store_upload(ANN, data, Rules())


def test_a_large_upload_is_refused(fleet: Fleet) -> None:
    with pytest.raises(PayloadTooLarge):
        store_upload(ANN, picture_bytes(), Rules(most_upload=10))


def test_a_job_takes_the_result_of_an_earlier_one_of_the_same_visitor(served: Fleet) -> None:
    first = enqueue(ANN, WISH, Rules())
    with pytest.raises(InvalidJob, match="has no result") as raised:
        enqueue(ANN, {**SWAP, "previous_job": first.id}, Rules())
    assert raised.value.field == "previous_job"
    first.wait(30)
    known = job_of(ANN, first.id)
    assert known.record is known.record, "an end is read once"
    assert owns(ANN, first.artifacts[0].key)
    assert not owns(BEN, first.artifacts[0].key)
    second = enqueue(ANN, {**SWAP, "previous_job": first.id}, Rules())
    assert isinstance(second, Job)
    assert second.wait(30)["artifacts"]
    with pytest.raises(InvalidJob, match="no such job"):
        enqueue(BEN, {**SWAP, "previous_job": first.id}, Rules())
