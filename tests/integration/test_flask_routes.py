"""The Flask extension's routes: what a user gets, and what everybody else does not."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ryla_tasks import Job, run_endpoint
from ryla_tasks.artifacts import store_of
from ryla_tasks.contrib.flask import Rules, Ryla
from ryla_tasks.settings import get_settings
from ryla_tasks.tasks import runtime
from ryla_tasks.webhooks import Attempt, make_token
from tests.conftest import fresh_settings
from tests.support.flask_app import create_app
from tests.support.fleet import Fleet, eventually
from tests.support.pictures import picture_bytes
from tests.support.servers import Server

WISH = {"task": "generate_image", "template": "z-image-turbo", "prompt": "a lighthouse", "width": 64, "height": 64}
SECRET = "a-secret-of-sixteen-and-more"
ANN, BEN, STAFF = {"X-User": "ann"}, {"X-User": "ben"}, {"X-User": "staff"}


@pytest.fixture
def client(served: Fleet) -> FlaskClient:
    return create_app().test_client()


def ask(client: FlaskClient, wish: Any = None, **more: Any) -> TestResponse:
    return client.post("/ryla/jobs", json=WISH if wish is None else wish, headers={**ANN, **more.pop("headers", {})})


def ask_form(client: FlaskClient, data: dict[str, Any]) -> TestResponse:
    return client.post("/ryla/uploads", data=data, content_type="multipart/form-data", headers=ANN)


def error_of(answer: TestResponse, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.data
    assert answer.mimetype == "application/json"
    error: dict[str, Any] = answer.get_json()["error"]
    assert error["message"]
    return error


# --- what a user gets ---


def test_a_job_from_its_post_to_its_file(client: FlaskClient) -> None:
    answer = ask(client, headers={"Idempotency-Key": "k1"})
    document = answer.get_json()
    assert (answer.status_code, answer.headers["Cache-Control"]) == (202, "no-store")
    assert answer.headers["Location"] == f"/ryla/jobs/{document['id']}"
    assert (document["task"], document["ended"], document["label"]) == ("generate_image", False, "z-image-turbo")
    assert ask(client, headers={"Idempotency-Key": "k1"}).get_json()["id"] == document["id"]
    Job(document["id"]).wait(30)
    done = client.get(answer.headers["Location"], headers=ANN).get_json()
    assert (done["status"], done["percent"]) == ("completed", 100)
    (file,) = done["files"]
    picture = client.get(file["url"], headers=ANN)
    assert picture.data.startswith(b"\x89PNG")
    assert picture.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert picture.headers["Cache-Control"].startswith("private")
    again = client.get(file["url"], headers={**ANN, "If-None-Match": picture.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    part = client.get(file["url"], headers={**ANN, "Range": "bytes=1-3"})
    assert (part.status_code, part.data) == (206, b"PNG")
    assert [one["id"] for one in client.get("/ryla/jobs?status=completed&kind=image", headers=ANN).json["jobs"]] == [
        document["id"]
    ]
    assert client.get("/ryla/jobs?limit=0", headers=ANN).json == {"jobs": []}
    error_of(client.post(f"/ryla/jobs/{document['id']}/cancel", headers=ANN), 409)


def test_cancel(client: FlaskClient) -> None:
    job = Job(run_endpoint.apply_async(("echo", {"n": 1}), {"user_id": "ann"}, countdown=600).id)
    answer = client.post(f"/ryla/jobs/{job.id}/cancel", headers=ANN)
    assert answer.status_code == 202
    eventually(lambda: job.status == "cancelled", what="it is cancelled")


def test_a_sheet_shows_its_cells(client: FlaskClient) -> None:
    upload = client.post("/ryla/uploads", data={"file": (io.BytesIO(picture_bytes()), "a.png")}, headers=ANN).json
    wish = {"task": "make_character_sheet", "image": upload["artifact"], "angles": ["front", "back"]}
    document = ask(client, wish).get_json()
    cells = client.get(f"/ryla/jobs/{document['id']}?cells=1", headers=ANN).json["cells"]
    assert [cell["name"] for cell in cells] == ["front", "back"]


def test_uploads_feed_a_training(served: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RYLA_ARTIFACTS_URL", "http://127.0.0.1:1/ryla/shared")
    monkeypatch.setenv("RYLA_WEBHOOK_SECRET", SECRET)
    fresh_settings()
    client = create_app().test_client()
    artifacts = []
    for shade in range(3):
        data = {"file": (io.BytesIO(picture_bytes(shade)), "../../etc/passwd")}
        answer = client.post("/ryla/uploads", data=data, headers=ANN)
        assert answer.status_code == 201
        assert set(answer.json["artifact"]) == {"key", "content_type", "bytes"}
        artifacts.append(answer.json["artifact"])
    wish = {"task": "train_lora", "trigger_word": "rylagirl", "images": artifacts}
    assert ask(client, wish).status_code == 202
    # The address that a GPU worker gets needs no session, and works only as it was signed.
    url = store_of(get_settings()).url(artifacts[0]["key"]).removeprefix("http://127.0.0.1:1")
    shared = client.get(url)
    assert shared.data == picture_bytes(0)
    assert shared.headers["Content-Disposition"] == "attachment"
    path, _, query = url.partition("?")
    for forged in (path, url + "0", f"{path.replace('uploads', 'image')}?{query}", f"/ryla/shared/../../x?{query}"):
        assert client.get(forged).status_code == 404


# --- strangers ---


@pytest.fixture
def anns(client: FlaskClient) -> str:
    job = Job(ask(client).get_json()["id"])
    job.wait(30)
    return job.id


def routes_of(job_id: str) -> Iterator[tuple[str, str]]:
    yield from (("GET", ""), ("GET", "?cells=1"), ("GET", "/events"), ("GET", "/files/0"), ("POST", "/cancel"))


def test_a_strangers_requests_to_a_job(client: FlaskClient, anns: str) -> None:
    for method, rest in routes_of(anns):
        path = f"/ryla/jobs/{anns}{rest}"
        error_of(client.open(path, method=method), 401)
        assert "no such job" in error_of(client.open(path, method=method, headers=BEN), 404)["message"]
        # As if there were none.
        nobody = client.open(path.replace(anns, "nonsense"), method=method, headers=BEN)
        assert nobody.data == client.open(path, method=method, headers=BEN).data
    assert client.get(f"/ryla/jobs/{anns}", headers=STAFF).status_code == 200
    assert client.get("/ryla/jobs", headers=BEN).json == {"jobs": []}
    for method, path in (("GET", "/ryla/jobs"), ("POST", "/ryla/jobs"), ("POST", "/ryla/uploads")):
        error_of(client.open(path, method=method), 401)


@pytest.mark.parametrize("number", ["1", "99999999999999999999", "-1", "x", "../0", "0/../../../etc/passwd", "%2e%2e"])
def test_no_other_files(client: FlaskClient, anns: str, number: str) -> None:
    assert client.get(f"/ryla/jobs/{anns}/files/{number}", headers=ANN).status_code == 404


def test_artifacts_of_others_wherever_they_stand(client: FlaskClient, anns: str) -> None:
    theirs = client.get(f"/ryla/jobs/{anns}", headers=ANN).json["files"][0]["artifact"]
    upload = client.post("/ryla/uploads", data={"file": (io.BytesIO(picture_bytes()), "a.png")}, headers=ANN).json
    for artifact in (theirs, upload["artifact"], {"key": "../../etc/passwd"}, {"key": "a/../b"}, {"key": {}}):
        for wish in (
            {"task": "swap_face", "image": artifact, "face": {"url": "https://x.example/y"}},
            {"task": "swap_face", "image": {"url": "https://x.example/y"}, "face": artifact},
            {"task": "train_lora", "trigger_word": "x", "images": [{"url": "https://x.example/y"}, artifact]},
            {**WISH, "images": [{"deeper": [{"still": artifact}]}]},
        ):
            answer = client.post("/ryla/jobs", json=wish, headers=BEN)
            assert "no artifact of yours" in error_of(answer, 400)["message"]
    wish = {"task": "swap_face", "previous_job": anns, "face": {"url": "https://x.example/y"}}
    assert error_of(client.post("/ryla/jobs", json=wish, headers=BEN), 400)["field"] == "previous_job"
    assert client.get("/ryla/jobs", headers=BEN).json == {"jobs": []}


@pytest.mark.parametrize("field", ["user_id", "priority", "max_cost_usd", "previous", "workflow"])
def test_what_is_not_a_browsers_to_say(client: FlaskClient, field: str) -> None:
    assert error_of(ask(client, {**WISH, field: "ben"}), 400)["field"] == field


def test_without_a_hook_everybody_is_refused_and_the_log_says_why(
    served: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    app = Flask("hookless")
    Ryla(app)
    with caplog.at_level(logging.WARNING):
        error_of(app.test_client().get("/ryla/jobs", headers=ANN), 401)
    assert "give it visitor=" in caplog.text


def test_a_hook_that_gives_nonsense_is_the_apps_own_fault(served: Fleet) -> None:
    app = Flask("nonsense")
    Ryla(app, visitor=lambda: 1.5)  # type: ignore[arg-type,return-value]
    assert app.test_client().get("/ryla/jobs").status_code == 500


# --- other sites ---


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"Origin": "http://localhost"}, 202),
        ({"Origin": "https://localhost"}, 202),
        ({"Origin": "https://friend"}, 202),
        ({"Origin": "https://friend", "Sec-Fetch-Site": "cross-site"}, 202),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://behind-a-proxy.example"}, 202),
        ({"Sec-Fetch-Site": "none"}, 202),
        ({"Origin": "http://localhost:81"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "", "Origin": "http://localhost"}, 403),
    ],
)
def test_only_pages_of_the_app_may_change_anything(client: FlaskClient, headers: dict[str, str], status: int) -> None:
    answer = ask(client, headers=headers)
    assert answer.status_code == status
    assert client.get("/ryla/jobs", headers={**ANN, **headers}).status_code == 200
    if status == 403:
        assert "another site" in error_of(answer, 403)["message"]
        error_of(client.post("/ryla/jobs/x/cancel", headers={**ANN, **headers}), 403)
        error_of(client.post("/ryla/uploads", headers={**ANN, **headers}), 403)


@pytest.mark.parametrize("protected_first", [True, False])
def test_beside_csrf_protection(served: Fleet, monkeypatch: pytest.MonkeyPatch, protected_first: bool) -> None:
    from flask_wtf import CSRFProtect
    from flask_wtf.csrf import generate_csrf

    monkeypatch.setenv("RYLA_WEBHOOK_SECRET", SECRET)
    fresh_settings()
    app = Flask("protected")
    app.config["SECRET_KEY"] = "a key for tests"
    parts: list[Any] = [lambda: CSRFProtect(app), lambda: Ryla(app, visitor=lambda: "ann", rules=Rules(most_upload=99))]
    for part in parts if protected_first else reversed(parts):
        part()
    app.add_url_rule("/token", view_func=lambda: generate_csrf())
    client = app.test_client()
    assert "CSRF token is missing" in error_of(client.post("/ryla/jobs", json=WISH), 400)["message"]
    token = client.get("/token").text
    assert client.post("/ryla/jobs", json=WISH, headers={"X-CSRFToken": token}).status_code == 202
    assert client.post("/ryla/webhooks/forged", data=b"{}").status_code == 404, "it is exempt"
    # Its own look into the form reads no more than ours would.
    data = {"file": (io.BytesIO(b"x" * 1_000_000), "a.png")}
    error_of(client.post("/ryla/uploads", data=data), 413)


# --- bodies ---


def test_content_types_and_broken_bodies(client: FlaskClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        error_of(client.post("/ryla/jobs", data=json.dumps(WISH), content_type=kind, headers=ANN), 415)
    for body in (b"", b"{", b"[]", b"\xff", b"[" * 50_000):
        answer = client.post("/ryla/jobs", data=body, content_type="application/json", headers=ANN)
        assert error_of(answer, 400)["field"] == "body"
    error_of(client.post("/ryla/uploads", json={}, headers=ANN), 415)
    assert error_of(ask_form(client, {"other": "x"}), 400)["field"] == "file"
    for data in (b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", picture_bytes()[:60]):
        answer = client.post("/ryla/uploads", data={"file": (io.BytesIO(data), "a.png")}, headers=ANN)
        assert error_of(answer, 400)["field"] == "file"
    for query in ("status=nonsense", "limit=x", "limit=-1", "limit=99999999999"):
        error_of(client.get(f"/ryla/jobs?{query}", headers=ANN), 400)
    assert client.get("/ryla/uploads", headers=ANN).status_code == 405


def test_large_bodies_are_refused_before_they_are_read(client: FlaskClient) -> None:
    error_of(ask(client, {**WISH, "prompt": "x" * 100_000}), 413)
    data = {"file": (io.BytesIO(b"x" * 100_000), "a.png")}
    error_of(client.post("/ryla/uploads", data=data, headers=ANN), 413)
    data = {"file": (io.BytesIO(picture_bytes(side=900) + b"x" * 51_000), "a.png")}
    error_of(client.post("/ryla/uploads", data=data, headers=ANN), 413)


@pytest.mark.parametrize("kind", ["gthread", "dev"])
def test_a_large_body_without_a_length(served: Fleet, tmp_path: Path, kind: str) -> None:
    """In chunks, of which nobody says how many there will be."""
    with Server(kind, served.env(), tmp_path / "log") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        sent = 0

        def chunks() -> Iterator[bytes]:
            nonlocal sent
            for _ in range(500):
                sent += 1
                yield b"x" * 100_000

        headers = {**ANN, "Content-Type": "application/json", "Transfer-Encoding": "chunked"}
        with contextlib.suppress(OSError):  # gunicorn hangs up; the development server reads on, and forgets it
            connection.request("POST", "/ryla/jobs", chunks(), headers, encode_chunked=True)
            assert connection.getresponse().status == 413
        assert sent < 500 or kind == "dev", "it was not read to its end"
        assert server.get("/ping").read() == b"pong"
        small = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        body = iter([json.dumps(WISH)[:20].encode(), json.dumps(WISH)[20:].encode()])
        small.request("POST", "/ryla/jobs", body, headers, encode_chunked=True)
        assert small.getresponse().status == 202


# --- RunPod ---


def test_forged_webhooks(served: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    client = create_app().test_client()
    job = Job(run_endpoint.apply_async(("echo", {"n": 1}), {"user_id": "ann"}, countdown=600).id)
    assert client.post("/ryla/webhooks/x", data=b"{}").status_code == 503, "it is not set up"
    monkeypatch.setenv("RYLA_WEBHOOK_SECRET", SECRET)
    fresh_settings()
    secret = get_settings().webhook_secret
    assert secret is not None
    token = make_token(secret, Attempt(job.id, 1))
    before = job.record
    for forged in ("x", token[:-2] + "zz", token[1:], "%2e%2e", "a" * 5_000):
        assert client.post(f"/ryla/webhooks/{forged}", data=b'{"status": "COMPLETED"}').status_code == 404
    # Whatever a right one says, too, is only a nudge; and another site's page is no matter: it has the token or not.
    right = client.post(f"/ryla/webhooks/{token}", data=b'{"id": "x"}', headers={"Origin": "https://runpod.example"})
    assert right.status_code == 200
    assert job.record == before
    assert client.get(f"/ryla/webhooks/{token}").status_code == 405


# --- the script, and when Redis is away ---


def test_the_script_may_be_kept_for_ever_until_it_changes(client: FlaskClient) -> None:
    with client.application.test_request_context():
        from flask import url_for

        url = url_for("ryla.script")
    first = client.get(url)
    assert first.mimetype == "text/javascript"
    assert first.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    plain = client.get("/ryla/ryla.js")
    assert plain.headers["Cache-Control"] == "public, no-cache"
    assert client.get("/ryla/ryla.js", headers={"If-None-Match": plain.headers["ETag"]}).status_code == 304


def test_when_redis_is_away_everybody_is_asked_to_come_back(served: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    import ryla_tasks

    client = create_app().test_client()
    monkeypatch.setattr(ryla_tasks.app.conf, "result_backend", "redis://127.0.0.1:1/0")
    monkeypatch.setattr(ryla_tasks.app, "_local", type("Local", (), {})())
    runtime.forget(ryla_tasks.app)
    start = time.monotonic()
    answer = client.get("/ryla/jobs/x", headers=ANN)
    assert answer.headers["Retry-After"] == "5"
    error_of(answer, 503)
    assert time.monotonic() - start < 20
    monkeypatch.undo()
    runtime.forget(ryla_tasks.app)
