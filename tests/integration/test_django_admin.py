"""Jobs in Django's admin: who may see and stop them, the list with its filters and pages, and a job's page."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from ryla_tasks import Job, generate_image, run_endpoint
from tests.support.django import Browser, Site
from tests.support.fleet import Fleet

JOBS = "/admin/ryla/job/"


@pytest.fixture(scope="module")
def url(django_site: Site) -> Iterator[str]:
    with django_site.served("gunicorn") as url:
        yield url


@pytest.fixture(scope="module")
def cat(url: str) -> Browser:
    return Browser(url, "cat")


def listed(cat: Browser, query: str = "") -> list[str]:
    """The ids of the jobs in a page of the list, in its order."""
    answer = cat.get(f"{cat.url}{JOBS}{query}")
    assert answer.status_code == 200, answer.text[:2000]
    return re.findall(r'name="job" value="([^"]+)"', answer.text)


def act(who: Browser, path: str, action: str, *jobs: str) -> int:
    form = {"action": action, "job": jobs, "csrfmiddlewaretoken": who.token()}
    return who.post(f"{who.url}{path}", data=form, allow_redirects=False).status_code


def test_it_is_for_staff_with_the_permission(url: str, cat: Browser, fleet: Fleet) -> None:
    job = run_endpoint.delay("echo", {"n": 1}).id
    paths = ("", f"{job}/change/", f"live/jobs/{job}", f"live/jobs/{job}/events", f"{job}/files/0")
    for path in paths:
        dan = Browser(url, "dan").get(f"{url}{JOBS}{path}")
        assert dan.status_code == 403, path
        for name in ("ann", ""):
            answer = Browser(url, name).get(f"{url}{JOBS}{path}", allow_redirects=False)
            assert "/login/" in answer.headers["Location"], path
    assert act(Browser(url, "dan"), f"{JOBS}{job}/change/", "cancel") == 403
    assert not Job.get(job).status.ended
    assert cat.get(f"{url}/admin/").text.count("/admin/ryla/job/") >= 1
    assert cat.get(f"{url}{JOBS}add/").status_code == 404


def test_filters_search_and_pages(cat: Browser, fleet: Fleet) -> None:
    echoes = [run_endpoint.delay("echo", {"n": n}, user_id="77").id for n in range(120)]
    image = generate_image.delay(template="z-image-turbo", prompt="a secret hut", user_id="1").id
    assert listed(cat, "?kind=image&status=queued") == [image]
    assert listed(cat, "?endpoint=image") == [image]
    # A user's name will do, where the ids are those of Django's users.
    assert listed(cat, "?q=ann") == [image]
    assert listed(cat, f"?q={echoes[5]}") == [echoes[5]]
    assert listed(cat, "?status=failed") == []
    assert listed(cat, "?status=nonsense&after=nonsense")[0] == image
    assert all_pages(cat, "?q=77") == echoes[::-1]
    assert "a secret hut" not in cat.get(f"{cat.url}{JOBS}{image}/change/").text


def test_jobs_of_one_moment_are_listed_once(cat: Browser, fleet: Fleet) -> None:
    jobs = [run_endpoint.delay("echo", {"n": n}).id for n in range(120)]
    moment = fleet.client.zscore("ryla:idx:all", jobs[0])
    for job in jobs:
        fleet.client.hset(f"ryla:job:{job}", "created", int(moment))
        fleet.client.zadd("ryla:idx:all", {job: moment})
    assert all_pages(cat, "?") == sorted(jobs, reverse=True)


def all_pages(cat: Browser, query: str) -> list[str]:
    """The ids of all jobs, page after page."""
    found: list[str] = []
    while query:
        found += listed(cat, query)
        older = re.search(r'href="(\?[^"]*after=[^"]*)"', cat.get(f"{cat.url}{JOBS}{query}").text)
        query = older[1].replace("&amp;", "&") if older else ""
    return found


def test_jobs_are_stopped_and_that_is_noted(cat: Browser, fleet: Fleet) -> None:
    jobs = [run_endpoint.delay("echo", {"n": n}).id for n in range(3)]
    assert act(cat, JOBS, "cancel", *jobs[:2]) == 302
    assert act(cat, f"{JOBS}{jobs[2]}/change/", "cancel") == 302
    assert {Job.get(job).status for job in jobs} == {"cancelled"}
    assert act(cat, JOBS, "cancel", jobs[0], "nonsense") == 302
    said = cat.get(f"{cat.url}{JOBS}").text
    assert "it is too late" in said
    assert "There is no job nonsense" in said
    assert act(cat, JOBS, "delete", jobs[0]) == 403
    noted = cat.get(f"{cat.url}/admin/").text
    assert all(f"/admin/ryla/job/{job}/change/" in noted for job in jobs)


def test_the_page_of_a_job(cat: Browser, served: Fleet) -> None:
    done = generate_image.delay(template="z-image-turbo", prompt="a hut", user_id="1")
    failed = run_endpoint.delay("echo", {"simulate": {"fail": "it <b>broke</b>"}}, max_retries=0)
    Job(done.id).wait(30)
    failed.get(timeout=30, propagate=False)
    page = cat.get(f"{cat.url}{JOBS}{done.id}/change/").text
    assert 'href="/admin/ryla/job/?q=1">ann</a>' in page
    (file,) = set(re.findall(r'src="(/admin/ryla/job/[^"]+/files/0)"', page))
    assert cat.get(cat.url + file).headers["Content-Type"] == "image/png"
    assert cat.get(f"{cat.url}{JOBS}live/jobs/{done.id}").json()["files"][0]["url"] == file
    assert "event: end" in cat.get(f"{cat.url}{JOBS}live/jobs/{done.id}/events").text
    page = cat.get(f"{cat.url}{JOBS}{failed.id}/change/").text
    assert Job(failed.id).error.info["code"] in page
    assert "<b>broke" not in page
    for path in ("nonsense/change/", "live/jobs/nonsense", "nonsense/files/0", "live/jobs/nonsense/events"):
        assert cat.get(f"{cat.url}{JOBS}{path}").status_code == 404


def test_redis_is_away(cat: Browser, fleet: Fleet) -> None:
    fleet.redis.stop()
    try:
        for path in ("", "x/change/"):
            answer = cat.get(f"{cat.url}{JOBS}{path}")
            assert (answer.status_code, "Redis cannot be reached" in answer.text) == (200, True)
    finally:
        fleet.redis.start()
