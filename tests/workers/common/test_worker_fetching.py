"""Files by URL: where a GPU worker may be sent, and what it takes from there."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from workers.common.addresses import ALLOW, Rules
from workers.common.fetching import Fetched, FetchFailed, FetchRefused, fetch
from workers.common.notice import taken

PNG = b"\x89PNG\r\n\x1a\n" + bytes(500)
ONLY_US = Rules((ip_network("127.0.0.1/32"),))
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def get(
    handler: Handler, to: Path, path: str = "/a.png", rules: Rules = ONLY_US, most: int = 10_000, sha: str | None = None
) -> Fetched:
    async def go() -> Fetched:
        async with served(handler) as base:
            return await fetch(
                f"{base}{path}", to, most_bytes=most, types=["image/png", "video/*"], sha256=sha, rules=rules
            )

    return asyncio.run(go())


async def png(_request: web.Request) -> web.Response:
    return web.Response(body=PNG, content_type="image/png")


def test_a_file_is_fetched_as_a_whole(tmp_path: Path) -> None:
    to = tmp_path / "in" / "a.png"
    digest = hashlib.sha256(PNG).hexdigest()
    assert get(png, to, sha=digest) == Fetched(to, "image/png", len(PNG), digest)
    assert to.read_bytes() == PNG
    assert list(to.parent.iterdir()) == [to]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a.png",
        "file:///etc/passwd",
        "ftp://example.com/a",
        "https://127.0.0.1/a.png",
        "https://[::1]/a.png",
        "https://[::ffff:127.0.0.1]/a.png",
        "https://[64:ff9b::a00:1]/a.png",
        "https://[2002:7f00:1::]/a.png",
        "https://169.254.169.254/latest/meta-data/",
        "https://10.0.0.1/a.png",
        "https://100.64.0.1/a.png",
        "https://0.0.0.0/a.png",
        "https://localhost/a.png",
        "https://2130706433/a.png",
        "https://0x7f.1/a.png",
        "https://127.1/a.png",
        "https://me:secret@example.com/a.png",
        "https:///a.png",
        "nonsense",
        "",
    ],
)
def test_only_public_addresses_by_https(url: str, tmp_path: Path) -> None:
    with pytest.raises(FetchRefused) as refused:
        asyncio.run(fetch(url, tmp_path / "a", most_bytes=10, types=[], rules=Rules()))
    assert "secret" not in str(refused.value.details)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "target",
    ["http://169.254.169.254/latest/meta-data/", "http://127.0.0.2/x", "file:///etc/passwd", "https://[::1]/"],
)
def test_a_redirect_is_checked_like_the_first_url(target: str, tmp_path: Path) -> None:
    async def away(_request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": target})

    with pytest.raises(FetchRefused):
        get(away, tmp_path / "a.png")


def test_redirects_are_followed_to_allowed_places_but_not_for_ever(tmp_path: Path) -> None:
    async def hops(request: web.Request) -> web.StreamResponse:
        left = int(request.path.strip("/"))
        return await png(request) if left == 0 else web.Response(status=307, headers={"Location": f"/{left - 1}"})

    assert get(hops, tmp_path / "a.png", "/5").bytes == len(PNG)
    with pytest.raises(FetchRefused, match="refused"):
        get(hops, tmp_path / "b.png", "/6")


def test_a_name_that_leads_to_a_private_address_is_refused_at_connect(tmp_path: Path) -> None:
    async def go() -> None:
        async with served(png) as base:
            await fetch(base.replace("127.0.0.1", "localhost"), tmp_path / "a", most_bytes=10, rules=only_ten)

    only_ten = Rules((ip_network("10.0.0.0/8"),))
    with pytest.raises(FetchRefused) as refused:
        asyncio.run(go())
    assert "leads to an address" in refused.value.why


def test_size_type_and_digest_are_checked(tmp_path: Path) -> None:
    async def chunked(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "image/png"})
        await response.prepare(request)
        for _ in range(10):
            await response.write(PNG)
        return response

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<html>", content_type="text/html")

    for handler, most, sha in ((png, 100, None), (chunked, 1_000, None), (page, 1_000, None), (png, 1_000, "0" * 64)):
        with pytest.raises(FetchRefused):
            get(handler, tmp_path / "a.png", most=most, sha=sha)
    assert not list(tmp_path.iterdir()), "nothing half is left behind"


def test_what_may_pass_is_tried_again_and_what_is_gone_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.common.fetching._PAUSE_S", 0.01)
    asked: list[str] = []

    async def flaky(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return web.Response(status=503) if len(asked) < 3 else await png(request)

    async def gone(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return web.Response(status=404)

    assert get(flaky, tmp_path / "a.png").bytes == len(PNG)
    assert len(asked) == 3
    with pytest.raises(FetchFailed) as failed:
        get(gone, tmp_path / "a.png", "/secret-path")
    assert (failed.value.code, len(asked)) == ("fetch_gone", 4)
    assert "secret-path" not in str(failed.value.details)


def test_the_switch_for_private_networks() -> None:
    assert not Rules.from_env({}).opened
    opened = Rules.from_env({ALLOW: "1"})
    assert opened.allows("127.0.0.1", "http")
    assert opened.allows("10.1.1.1", "https")
    assert not opened.allows("8.8.8.8", "http"), "http is for what was opened"
    assert not opened.allows("169.254.169.254", "http"), "cloud metadata only if it is named"
    named = Rules.from_env({ALLOW: "10.1.0.0/16, fd00::/8"})
    assert named.allows("10.1.2.3", "http")
    assert not named.allows("10.2.2.3", "https")
    with pytest.raises(ValueError, match="nonsense"):
        Rules.from_env({ALLOW: "nonsense"})


@given(st.ip_addresses())
def test_by_default_only_global_addresses_are_allowed(address: object) -> None:
    if Rules().allows(str(address), "https"):
        assert address.is_global  # type: ignore[attr-defined]
    assert not Rules().allows(str(address), "http")


def test_the_notice_of_a_taken_job() -> None:
    got: list[object] = []

    async def webhook(request: web.Request) -> web.Response:
        got.append(await request.json())
        return web.Response(status=500 if "bad" in request.path else 204)

    async def go() -> list[bool]:
        async with served(webhook) as base:
            jobs: list[object] = [{"ryla": {"webhook": f"{base}/{name}"}} for name in ("ok", "bad")]
            jobs += [{"ryla": {"webhook": "http://127.0.0.1:1/"}}, {"ryla": {"webhook": 5}}, {}, "text", None]
            return [await taken({"id": "r-1", "input": one}, rules=ONLY_US) for one in jobs]

    assert asyncio.run(go()) == [True, False, False, False, False, False, False]
    assert got == [{"id": "r-1", "status": "IN_PROGRESS"}] * 2
