"""The studio of examples/django_studio in a real browser, as its users see it, and its jobs in the admin."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, Locator, Page, expect

from ryla_tasks.embedded.ports import free_port
from ryla_tasks.simulator import EndpointConfig
from tests.conftest import QUICK
from tests.support.browser import launched
from tests.support.fleet import ENDPOINTS, Fleet, eventually
from tests.support.pages import ROOT
from tests.support.pictures import picture_bytes

STUDIO = ROOT / "examples" / "django_studio"

#: Slow enough that each phase is seen.
SEEN = {"run_s": 2.5, "steps": 25}
COLD = {"workers_min": 0, "workers_max": 3, "cold_start_s": 4.0}

PATIENCE_MS = 25_000


@dataclass
class Site:
    """The running studio, a browser, and what went wrong in its pages."""

    fleet: Fleet
    url: str
    browser: Browser
    errors: list[str]

    @contextmanager
    def visitor(self, name: str = "demo", **options: Any) -> Iterator[Page]:
        """A page of somebody who has signed in, or joined, in a browser of their own."""
        context = self.browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if said.type in ("error", "warning") else None)
        page.goto(self.url)
        if name == "demo":
            page.get_by_label("Username").fill("demo")
            page.get_by_label("Password").fill("demo")
            page.get_by_role("button", name="Sign in").click()
        else:
            page.get_by_role("link", name="Join").click()
            page.get_by_label("Username").fill(name)
            page.get_by_label("Password", exact=True).fill("a-long-word-17")
            page.get_by_label("Password confirmation").fill("a-long-word-17")
            page.get_by_role("button", name="Join").click()
        expect(page.get_by_role("heading", name="Your cast")).to_be_visible()
        yield page
        context.close()


@pytest.fixture(scope="module")
def studio(whole_fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("studio")
    whole_fleet.stop_workers()
    whole_fleet.reset()
    port = free_port()
    priced = {
        name: {"price_per_s": 0.00031, **json.loads(QUICK[f"RYLA_ENDPOINT_{name.upper()}"])} for name in ENDPOINTS
    }
    more = {
        **QUICK,
        **{f"RYLA_ENDPOINT_{name.upper()}": json.dumps(endpoint) for name, endpoint in priced.items()},
        "RYLA_HEALTH_INTERVAL_S": "1",
        "DJANGO_SETTINGS_MODULE": "studio_site.settings",
        "PYTHONPATH": f"{STUDIO}:{ROOT}",
        "STUDIO_DATABASE": str(folder / "studio.sqlite"),
        "STUDIO_URL": f"http://127.0.0.1:{port}",
    }
    manage = [sys.executable, str(STUDIO / "manage.py")]
    subprocess.run([*manage, "createdemo"], env=whole_fleet.env(**more), check=True, timeout=60)
    with launched() as browser, (folder / "web.log").open("wb") as log:
        server = subprocess.Popen(
            [*manage, "runserver", "--noreload", f"127.0.0.1:{port}"],
            env=whole_fleet.env(**more), stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            eventually(lambda: _answers(f"http://127.0.0.1:{port}"), timeout=60, what="the studio answers")
            whole_fleet.worker(
                "--concurrency", "4", app="ryla_tasks.contrib.django.worker_app", **more
            ).wait_ready(60)  # fmt: skip
            yield Site(whole_fleet, f"http://127.0.0.1:{port}", browser, [])
        finally:
            server.terminate()
            server.wait(10)
    whole_fleet.stop_workers()


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/sign-in", timeout=10).ok
    except (requests.ConnectionError, requests.Timeout):
        return False


@pytest.fixture
def site(studio: Site) -> Iterator[Site]:
    studio.fleet.reset(**SEEN)
    studio.errors.clear()
    yield studio
    assert studio.errors == []


def add(page: Page, name: str) -> None:
    """Add a character, and go to it."""
    page.get_by_label("Name").fill(name)
    page.get_by_label("How they look").fill("a tall man with a grey beard")
    page.get_by_role("button", name="Add to the cast").click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()


def shoot(page: Page, scene: str, **more: str) -> Locator:
    """Ask for a picture; its card, whatever becomes of it."""
    page.get_by_label("Scene").fill(scene)
    if "count" in more:
        page.get_by_label("How many").fill(more["count"])
    page.get_by_role("button", name="Shoot").click()
    card = page.locator(".card").filter(has_text=scene)
    expect(card).to_have_count(1)
    return card


def percent_of(card: Locator) -> int:
    return int(card.get_by_role("progressbar").get_attribute("aria-valuenow") or 0)


def check_pictures(card: Locator, count: int = 1) -> None:
    """That the card shows pictures, and not only the place for them."""
    expect(card).to_have_attribute("data-status", "completed", timeout=PATIENCE_MS)
    images = card.locator("img")
    expect(images).to_have_count(count)
    for place in range(count):
        images.nth(place).scroll_into_view_if_needed()
        expect(images.nth(place)).to_have_js_property("complete", True)
        assert images.nth(place).evaluate("image => image.naturalWidth") > 0


def test_a_picture_from_the_scene_to_the_sheet(site: Site) -> None:
    site.fleet.reset(**{**SEEN, **COLD, "run_s": 4})
    with site.visitor() as page:
        page.get_by_role("link", name="Mara").click()
        card = shoot(page, "On a pier at dawn")
        expect(card).to_have_attribute("data-status", "starting", timeout=PATIENCE_MS)
        expect(card.locator("[data-phase]")).to_contain_text("Starting a GPU")
        expect(card).to_have_attribute("data-status", "running", timeout=PATIENCE_MS)
        expect(card.locator("[data-left]")).to_contain_text("left")
        bar = "document.querySelector('[role=progressbar]')?.getAttribute('aria-valuenow') ?? null"
        seen = set()
        while (now := page.evaluate(bar)) is not None:
            seen.add(int(now))
            page.wait_for_timeout(50)
        assert len({one for one in seen if 0 < one < 100}) >= 2, f"the bar moves: {sorted(seen)}"
        check_pictures(card)
        expect(page.locator("[data-said]")).to_have_text("On a pier at dawn: completed")
        expect(page.locator("[data-cost]")).to_have_text(re.compile(r"\$0\.00(?!00)\d\d"))
        page.reload()
        check_pictures(card)
        page.get_by_role("link", name="All characters").click()
        expect(page.get_by_role("link", name="Mara").locator("img")).to_be_visible()


def test_a_reload_in_the_middle(site: Site) -> None:
    with site.visitor("Reloader") as page:
        add(page, "Ole")
        card = shoot(page, "In a library")
        expect(card).to_have_attribute("data-status", "running", timeout=PATIENCE_MS)
        before = percent_of(card)
        page.reload()
        expect(card).to_have_attribute("data-status", "running", timeout=PATIENCE_MS)
        assert percent_of(card) >= before
        check_pictures(card)


def test_two_users_at_once_see_their_own(site: Site) -> None:
    with site.visitor("Ann") as ann, site.visitor("Ben", viewport={"width": 390, "height": 844}) as ben:
        add(ann, "Ada")
        add(ben, "Bo")
        hers, his = shoot(ann, "On a roof", count="3"), shoot(ben, "In a train")
        check_pictures(hers, 3)
        check_pictures(his)
        expect(ben.locator(".card")).to_have_count(1)
        where = hers.locator("img").first.get_attribute("src")
        assert ben.request.get(f"{site.url}{where}").status == 404
        assert ben.request.get(ann.url).status == 404
        # A phone: nothing sticks out.
        assert ben.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_job_that_fails_says_why_and_may_be_tried_again(site: Site) -> None:
    site.fleet.reset(**SEEN, missing_models=("z_image_turbo_bf16.safetensors",))
    with site.visitor("Unlucky") as page:
        add(page, "Cy")
        card = shoot(page, "In the dark")
        expect(card).to_have_attribute("data-status", "failed", timeout=PATIENCE_MS)
        expect(card).to_contain_text("That did not work")
        expect(card).to_contain_text("model")
        site.fleet.endpoint().update(missing_models=())
        card.get_by_role("button", name="Try again").click()
        check_pictures(card)


def test_cancel(site: Site) -> None:
    site.fleet.reset(run_s=60)
    with site.visitor("Canceller") as page:
        add(page, "Di")
        card = shoot(page, "In a storm")
        expect(card).to_have_attribute("data-status", "running", timeout=PATIENCE_MS)
        card.get_by_role("button", name="Cancel").click()
        expect(card).to_have_attribute("data-status", "cancelled", timeout=PATIENCE_MS)
        expect(card).to_contain_text("Cancelled")


def test_a_face_is_swapped_and_a_likeness_trained(site: Site, tmp_path: Path) -> None:
    site.fleet.reset(run_s=0.3)
    site.fleet.endpoint("lora").remove()
    trainer = EndpointConfig(endpoint_id="lora", program="lora", workers_min=1, cold_start_s=0, run_s=0.5)
    site.fleet.simulator.add_endpoint(trainer)
    photographs = [tmp_path / f"{n}.png" for n in range(3)]
    for n, path in enumerate(photographs):
        path.write_bytes(picture_bytes(shade=50 * n))
    with site.visitor("Trainer") as page:
        add(page, "Eve")
        check_pictures(shoot(page, "By the sea"))
        page.reload()
        page.get_by_text("Swap the face").click()
        page.get_by_label("A photograph of the face").set_input_files(photographs[0])
        page.get_by_role("button", name="Swap", exact=True).click()
        check_pictures(page.locator(".card.swap"))
        page.get_by_text("Train the likeness").click()
        page.get_by_label("Trigger word").fill("evegirl")
        page.get_by_label("Photographs").set_input_files(photographs[:1])
        page.get_by_label("Use the pictures that are here").uncheck()
        page.get_by_role("button", name="Train", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("images")
        page.get_by_label("Photographs").set_input_files(photographs)
        page.get_by_role("button", name="Train", exact=True).click()
        expect(page.locator(".card.training")).to_have_attribute("data-status", "completed", timeout=PATIENCE_MS)
        page.reload()
        expect(page.locator(".badge")).to_have_text("Likeness trained")
        check_pictures(shoot(page, "With the likeness"))
        # What the browser told of the form that was refused.
        site.errors[:] = [error for error in site.errors if "422" not in error]


def test_the_admin_shows_the_job_and_stops_it(site: Site) -> None:
    site.fleet.reset(run_s=16)
    with site.visitor() as page:
        add(page, "Flo")
        card = shoot(page, "In an office")
        expect(card).to_have_attribute("data-status", "running", timeout=PATIENCE_MS)
        page.goto(f"{site.url}/admin/ryla/job/?status=running")
        row = page.locator("#result_list tbody tr")
        expect(row).to_have_count(1)
        expect(row).to_contain_text("demo")
        expect(row.locator("[data-ryla-bar]")).not_to_have_js_property("value", 0)
        row.get_by_role("link").first.click()
        expect(page.locator("[data-ryla-state]")).to_have_text("running")
        page.get_by_role("button", name="Cancel this job").click()
        expect(page.locator("[data-ryla-state]")).to_have_text("cancelled", timeout=PATIENCE_MS)
        expect(page.get_by_role("button", name="Try again")).to_be_visible()
