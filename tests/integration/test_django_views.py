"""Django's routes under gunicorn's threads: who may do what, what is refused, and event streams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
import requests

import ryla_tasks
from ryla_tasks import Job
from ryla_tasks.tasks.runtime import runtime_of
from tests.conftest import fresh_settings
from tests.support.django import SECRET, Browser, Site
from tests.support.fleet import Fleet, WorkerProcess, eventually
from tests.support.pictures import picture_bytes


@pytest.fixture(scope="module")
def shared_worker(whole_fleet: Fleet, django_site: Site) -> Iterator[WorkerProcess]:
    """In place of the usual one: it has the project, with its Celery app."""
    whole_fleet.stop_workers()
    whole_fleet.reset()
    yield django_site.worker()
    whole_fleet.stop_workers()


@pytest.fixture(scope="module")
def url(django_site: Site) -> Iterator[str]:
    with django_site.served("gunicorn") as url:
        yield url


@pytest.fixture(scope="module")
def ann(url: str) -> Browser:
    return Browser(url, "ann")


@pytest.fixture(scope="module")
def ben(url: str) -> Browser:
    return Browser(url, "ben")


# --- who may do what ---


def test_a_job_from_its_request_to_its_files(ann: Browser, served: Fleet) -> None:
    answer = ann.call("POST", "jobs", json={"task": "generate_image", "template": "z-image-turbo", "prompt": "a hut"})
    assert answer.status_code == 202, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    document = answer.json()
    where = answer.headers["Location"]
    assert where == f"/ryla/jobs/{document['id']}"
    events, last = ann.follow(document["id"])
    assert last == "end"
    assert json.loads(events[-1][1])["phase"] == "completed"
    document = ann.get(ann.url + where).json()
    assert (document["status"], document["percent"], document["error"]) == ("completed", 100, None)
    (file,) = document["files"]
    picture = ann.get(ann.url + file["url"])
    assert (picture.headers["Content-Type"], len(picture.content)) == ("image/png", file["bytes"])
    assert "private" in picture.headers["Cache-Control"]
    again = ann.get(ann.url + file["url"], headers={"If-None-Match": picture.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert ann.get(f"{ann.url}{where}/files/1").status_code == 404
    assert [one["id"] for one in ann.call("GET", "jobs?kind=image&status=completed").json()["jobs"]] == [document["id"]]
    assert ann.call("POST", f"jobs/{document['id']}/cancel").status_code == 409


def test_a_job_of_somebody_else_is_not_there(ann: Browser, ben: Browser, url: str, served: Fleet) -> None:
    mine = ann.ask(n=1, simulate={"seconds": 30})["id"]
    # Neither does staff see it here: that is for a hook to say, and for the admin.
    for who in (ben, Browser(url, "cat")):
        for method, path in (
            ("GET", ""), ("GET", "?cells=1"), ("GET", "/events"), ("GET", "/files/0"), ("POST", "/cancel"),
        ):  # fmt: skip
            answer = who.call(method, f"jobs/{mine}{path}")
            assert (answer.status_code, answer.json()["error"]["type"]) == (404, "JobNotFound"), path
        assert who.call("GET", "jobs").json() == {"jobs": []}
    assert ann.call("POST", f"jobs/{mine}/cancel").status_code == 202
    eventually(lambda: Job.get(mine).status == "cancelled")


def test_whoever_is_not_signed_in_is_refused_and_not_redirected(url: str, ann: Browser, served: Fleet) -> None:
    mine, nobody = ann.ask(n=1)["id"], Browser(url)
    for method, path in (
        ("GET", "jobs"), ("POST", "jobs"), ("GET", f"jobs/{mine}"), ("GET", f"jobs/{mine}/events"),
        ("GET", f"jobs/{mine}/files/0"), ("POST", f"jobs/{mine}/cancel"), ("GET", "jobs/nonsense"),
    ):  # fmt: skip
        answer = nobody.call(method, path, json={}, allow_redirects=False)
        assert (answer.status_code, answer.json()["error"]["type"]) == (401, "NotSignedIn"), path
    answer = nobody.call("POST", "uploads", files={"file": picture_bytes()})
    assert answer.status_code == 401


def test_without_the_csrf_token_nothing_is_changed(ann: Browser, served: Fleet) -> None:
    mine = ann.ask(n=1, simulate={"seconds": 30})["id"]
    for path, more in (
        ("jobs", {"json": {"task": "echo"}}),
        (f"jobs/{mine}/cancel", {}),
        ("uploads", {"files": {"file": picture_bytes()}}),
    ):
        for token in ("", "x" * 64):
            answer = ann.call("POST", path, headers={"X-CSRFToken": token}, **more)
            assert answer.status_code == 403, path
    assert not Job.get(mine).status.ended
    assert len(ann.call("GET", "jobs").json()["jobs"]) == 1


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_are_not_allowed(ann: Browser, served: Fleet, method: str) -> None:
    for path in ("jobs", "uploads", "jobs/x", "jobs/x/cancel", "jobs/x/events", "webhooks/x", "shared/x", "ryla.js"):
        answer = ann.call(method, path, headers={"X-CSRFToken": ann.token()})
        assert answer.status_code == 405, path


# --- what is refused ---


def test_bad_wishes_name_the_field(ann: Browser, served: Fleet) -> None:
    for wish, field in (
        ({"task": "ryla.run_endpoint"}, "task"),
        ({"task": "generate_image", "template": "z-image-turbo", "prompt": ""}, "prompt"),
        ({"task": "echo", "user_id": "2"}, "user_id"),
        ({"task": "echo", "priority": "high"}, "priority"),
        ({"task": "echo", "image": {"key": "image/x/1/y.png"}}, "image"),
        ([1], "body"),
    ):
        answer = ann.call("POST", "jobs", json=wish)
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, field), wish
    for query in ("limit=-1", "limit=many", "status=dead"):
        assert ann.call("GET", f"jobs?{query}").status_code == 400


def test_bodies_that_are_too_large_or_of_the_wrong_kind(ann: Browser, served: Fleet) -> None:
    # Django's DATA_UPLOAD_MAX_MEMORY_SIZE is lower here than ours, and holds.
    large = ann.call("POST", "jobs", json={"task": "echo", "prompt": "x" * 120_000})
    assert (large.status_code, large.json()["error"]["type"]) == (413, "PayloadTooLarge")
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        answer = ann.call("POST", "jobs", data=b'{"task": "echo"}', headers={"Content-Type": kind})
        assert answer.status_code == 415, kind
    broken = ann.call("POST", "jobs", data=b"{", headers={"Content-Type": "application/json"})
    assert (broken.status_code, broken.json()["error"]["field"]) == (400, "body")
    assert ann.call("GET", "jobs").json() == {"jobs": []}


def test_uploads(ann: Browser, ben: Browser, served: Fleet) -> None:
    taken = ann.call("POST", "uploads", files={"file": ("face.png", picture_bytes())})
    assert taken.status_code == 201, taken.text
    mine = taken.json()["artifact"]
    swap = {"task": "swap_face", "face": mine, "image": mine}
    assert ann.call("POST", "jobs", json=swap).status_code == 202
    stolen = ben.call("POST", "jobs", json=swap)
    assert (stolen.status_code, stolen.json()["error"]["field"]) == (400, "face")
    for files, status in (
        ({"file": picture_bytes() + bytes(250_000)}, 413),
        ({"file": b"<svg/>"}, 400),
        ({"other": picture_bytes()}, 400),
    ):
        answer = ann.call("POST", "uploads", files=files)
        assert (answer.status_code, "error" in answer.json()) == (status, True), files.keys()
    # The file is just too large, and the form around it is not.
    assert ann.call("POST", "uploads", files={"file": picture_bytes() + bytes(200_000)}).status_code == 413
    form = {"Content-Type": "multipart/form-data"}
    assert ann.call("POST", "uploads", data=b"x", headers=form).status_code == 400
    assert ann.call("POST", "uploads", json={}).status_code == 415
    fields = {f"f{n}": "x" * 20_000 for n in range(8)}
    assert ann.call("POST", "uploads", files={"file": b"x"}, data=fields).status_code == 413


def test_a_key_gives_the_same_job_and_a_conflict(ann: Browser, ben: Browser, served: Fleet) -> None:
    def post(who: Browser, n: int) -> requests.Response:
        return who.call("POST", "jobs", json={"task": "echo", "n": n}, headers={"Idempotency-Key": "k"})

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: post(ann, 1), range(6)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = post(ann, 2)
    assert (other.status_code, other.json()["error"]["type"]) == (409, "IdempotencyConflict")
    assert post(ben, 2).json()["id"] != answers[0].json()["id"]


# --- other machines ---


def test_forged_webhook_calls_change_nothing(url: str, ann: Browser, served: Fleet) -> None:
    job = ann.ask(n=1)["id"]
    for token in ("nonsense", f"{job}.1.{'0' * 32}", job):
        answer = requests.post(f"{url}/ryla/webhooks/{token}", json={"id": "x", "status": "FAILED"})
        assert answer.status_code == 404
    assert requests.get(f"{url}/ryla/webhooks/x").status_code == 405
    # It is refused by its length alone: nothing of it is sent.
    connection = HTTPConnection(urlsplit(url).netloc, timeout=10)
    connection.putrequest("POST", "/ryla/webhooks/x")
    connection.putheader("Content-Length", str(40 * 2**20))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    assert Job.get(job).wait(30)


def test_shared_files_want_a_signature(url: str, ann: Browser, served: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ann.call("POST", "uploads", files={"file": picture_bytes()}).json()["artifact"]["key"]
    monkeypatch.setenv("RYLA_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("RYLA_ARTIFACTS_URL", f"{url}/ryla/shared")
    fresh_settings()
    signed = runtime_of(ryla_tasks.app).artifacts.url(key, 600)
    answer = requests.get(signed)
    assert (answer.status_code, answer.content) == (200, picture_bytes())
    assert answer.headers["Content-Disposition"] == "attachment"
    for broken in (
        signed.replace("signature=", "signature=0"),
        signed.partition("?")[0],
        signed.replace(".png", ".gif"),
    ):
        assert requests.get(broken).status_code == 404


def test_the_script_may_be_kept(url: str) -> None:
    first = requests.get(f"{url}/ryla/ryla.js")
    assert first.headers["Content-Type"].startswith("text/javascript")
    assert "no-cache" in first.headers["Cache-Control"]
    tag = first.headers["ETag"]
    assert requests.get(f"{url}/ryla/ryla.js", headers={"If-None-Match": tag}).status_code == 304
    kept = requests.get(f"{url}/ryla/ryla.js", params={"v": tag.strip('"').removeprefix('W/"')})
    assert "immutable" in kept.headers["Cache-Control"]


# --- event streams ---


def test_a_stream_that_is_cut_goes_on_where_it_was(ann: Browser, served: Fleet) -> None:
    job = ann.ask(n=1, simulate={"seconds": 1})["id"]
    seen: list[tuple[str, str]] = []
    last = ""
    while not last:
        more, last = ann.follow(job, seen[-1][0] if seen else "", most=1)
        seen += more
    assert seen == ann.follow(job)[0]
    assert [json.loads(data)["phase"] for _position, data in seen][0 :: len(seen) - 1] == ["queued", "completed"]
    assert ann.follow(job, seen[-1][0]) == ([], "over")


def test_streams_do_not_use_up_the_servers_threads(ann: Browser, served: Fleet) -> None:
    """gunicorn has 12 threads here, and 6 may be held by streams."""
    job = ann.ask(n=1, simulate={"seconds": 20})["id"]
    cookies = ann.cookies.get_dict()

    def watch(_number: int) -> int:
        address = f"{ann.url}/ryla/jobs/{job}/events"
        with requests.get(address, cookies=cookies, stream=True, timeout=30) as answer:
            return sum(len(piece) for piece in answer.iter_content(None))

    with ThreadPoolExecutor(30) as pool:
        watching = [pool.submit(watch, number) for number in range(30)]
        # All but six are sent away at once to come again, and the site answers.
        eventually(lambda: sum(one.done() for one in watching) == 24, what="24 of 30 are sent away")
        assert ann.call("POST", f"jobs/{job}/cancel").status_code == 202
        assert all(one.result(30) > 50 for one in watching)
