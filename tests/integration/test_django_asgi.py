"""Django's routes under ASGI, in one process of uvicorn: streams, and bodies that come in pieces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import psutil
import pytest

from ryla_tasks import Job
from tests.support.django import Browser, Site
from tests.support.fleet import Fleet, WorkerProcess, eventually
from tests.support.pictures import picture_bytes

STREAMS = 50


@pytest.fixture(scope="module")
def shared_worker(whole_fleet: Fleet, django_site: Site) -> Iterator[WorkerProcess]:
    """In place of the usual one: it has the project, with its Celery app."""
    whole_fleet.stop_workers()
    whole_fleet.reset()
    yield django_site.worker()
    whole_fleet.stop_workers()


@pytest.fixture(scope="module")
def ann(django_site: Site) -> Iterator[Browser]:
    with django_site.served("uvicorn") as url:
        yield Browser(url, "ann")


def test_fifty_streams_at_once_get_every_event_once(ann: Browser, served: Fleet, django_site: Site) -> None:
    job = ann.ask(n=1, simulate={"seconds": 60})["id"]
    cookies = "; ".join(f"{name}={value}" for name, value in ann.cookies.items())

    async def watch(opened: asyncio.Semaphore) -> str:
        where = urlsplit(ann.url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        head = f"GET /ryla/jobs/{job}/events HTTP/1.1\r\nHost: {where.netloc}\r\nCookie: {cookies}\r\n"
        writer.write(f"{head}Accept-Encoding: gzip\r\nConnection: close\r\n\r\n".encode())
        told = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in told.splitlines()[0], told
        assert b"gzip" not in told
        told = await reader.readuntil(b'"phase":"waiting"')
        opened.release()
        told += await reader.read()
        writer.close()
        return told.decode()

    async def watch_all() -> list[str]:
        opened = asyncio.Semaphore(0)
        watching = [asyncio.create_task(watch(opened)) for _ in range(STREAMS)]
        for _ in range(STREAMS):
            await asyncio.wait_for(opened.acquire(), 30)
        # All are held, and the process still answers, and keeps no database open for them.
        answer = await asyncio.to_thread(ann.call, "GET", f"jobs/{job}")
        assert answer.status_code == 200
        await asyncio.to_thread(eventually, lambda: open_databases(django_site) <= 2, what="databases are closed")
        assert (await asyncio.to_thread(ann.call, "POST", f"jobs/{job}/cancel")).status_code == 202
        return await asyncio.wait_for(asyncio.gather(*watching), 30)

    texts = asyncio.run(watch_all())
    events, _last = ann.follow(job)
    for text in texts:
        assert [text.count(f"id: {position}\n") for position, _data in events] == [1] * len(events)
        assert text.count("event: end") == 1


def open_databases(django_site: Site) -> int:
    """How often the site's database is open in its server."""
    count = 0
    for child in psutil.Process().children(recursive=True):
        if "uvicorn" in " ".join(child.cmdline()):
            count += sum(file.path.startswith(str(django_site.database)) for file in child.open_files())
    return count


def test_a_stream_that_is_cut_goes_on_where_it_was(ann: Browser, served: Fleet) -> None:
    answer = ann.call("POST", "jobs", json={"task": "generate_image", "template": "z-image-turbo", "prompt": "a hut"})
    job = answer.json()["id"]
    seen: list[tuple[str, str]] = []
    last = ""
    while not last:
        more, last = ann.follow(job, seen[-1][0] if seen else "", most=1)
        seen += more
    assert seen == ann.follow(job)[0]
    assert json.loads(seen[-1][1])["phase"] == "completed"


def test_files_and_uploads(ann: Browser, served: Fleet) -> None:
    artifact = ann.call("POST", "uploads", files={"file": picture_bytes()}).json()["artifact"]
    swap = {"task": "swap_face", "face": artifact, "image": artifact}
    document = ann.call("POST", "jobs", json=swap).json()
    Job.get(document["id"]).wait(30)
    (file,) = ann.call("GET", f"jobs/{document['id']}").json()["files"]
    assert len(ann.get(ann.url + file["url"]).content) == file["bytes"]


def test_a_body_without_a_length_is_counted(ann: Browser, served: Fleet) -> None:
    def pieces(count: int) -> Iterator[bytes]:
        yield b'{"task": "echo", "x": "'
        yield from (b"x" * 10_000 for _ in range(count))
        yield b'"}'

    kind = {"Content-Type": "application/json"}
    assert ann.call("POST", "jobs", data=pieces(5), headers=kind).status_code == 202
    large = ann.call("POST", "jobs", data=pieces(20), headers=kind)
    assert (large.status_code, large.json()["error"]["type"]) == (413, "PayloadTooLarge")
    assert ann.call("POST", "webhooks/x", data=pieces(1)).status_code == 404
