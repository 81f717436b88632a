"""The gallery of examples/flask_gallery in a real browser, as its users see it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from ryla_tasks.simulator import EndpointConfig
from tests.conftest import QUICK
from tests.support.browser import launched
from tests.support.fleet import ENDPOINTS, Fleet
from tests.support.pictures import picture_bytes
from tests.support.servers import Server

APP = "examples.flask_gallery:create_app"
SECRET = "a-secret-of-sixteen-and-more"

#: Slow enough that each phase is seen.
SEEN = {"run_s": 2.5, "steps": 25}
COLD = {"workers_min": 0, "workers_max": 3, "cold_start_s": 4.0}

PATIENCE_MS = 25_000

#: Where the bar stands; null where there is none any more.
BAR = "document.querySelector('[role=progressbar]')?.getAttribute('aria-valuenow') ?? null"


@dataclass
class Site:
    """The running gallery, a browser, and what went wrong in its pages."""

    fleet: Fleet
    url: str
    browser: Browser
    errors: list[str]
    server: Server
    env: dict[str, str]

    @contextmanager
    def visitor(self, name: str, **options: Any) -> Iterator[Page]:
        """A page of somebody who has signed in, in a browser of their own."""
        context = self.browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if said.type in ("error", "warning") else None)
        page.goto(self.url)
        page.get_by_label("Your name").fill(name)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="New picture")).to_be_visible()
        yield page
        context.close()


@pytest.fixture(scope="module")
def gallery(whole_fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("gallery")
    whole_fleet.stop_workers()
    whole_fleet.reset()
    more = {
        **QUICK,
        "RYLA_HEALTH_INTERVAL_S": "1",
        "RYLA_ARTIFACTS_URL": "http://127.0.0.1:1/ryla/shared",
        "RYLA_WEBHOOK_SECRET": SECRET,
        "GALLERY_DATABASE": str(folder / "gallery.sqlite"),
    }
    priced = {
        name: {"price_per_s": 0.00031, **json.loads(QUICK[f"RYLA_ENDPOINT_{name.upper()}"])} for name in ENDPOINTS
    }
    more |= {f"RYLA_ENDPOINT_{name.upper()}": json.dumps(endpoint) for name, endpoint in priced.items()}
    env = whole_fleet.env(**more)
    with launched() as browser, Server("gthread", env, folder / "web.log", factory=APP) as server:
        whole_fleet.worker("--concurrency", "4", flask_app=APP, **more).wait_ready()
        yield Site(whole_fleet, server.url, browser, [], server, env)
    whole_fleet.stop_workers()


@pytest.fixture
def site(gallery: Site) -> Iterator[Site]:
    gallery.fleet.reset(**SEEN)
    gallery.errors.clear()
    yield gallery
    assert gallery.errors == []


def ask_for(page: Page, prompt: str) -> Locator:
    """Ask for a picture; its card, whatever becomes of it."""
    page.get_by_label("What it shows").fill(prompt)
    page.get_by_role("button", name="Make the picture").click()
    card = page.locator("#cards > li").filter(has_text=prompt)
    expect(card).to_have_count(1)
    return card


def percent_of(card: Locator) -> int:
    return int(card.get_by_role("progressbar").get_attribute("aria-valuenow") or 0)


def check_picture(card: Locator) -> None:
    """That the card shows a picture, and not only the place for one."""
    image = card.locator("img")
    expect(image).to_be_visible(timeout=PATIENCE_MS)
    image.scroll_into_view_if_needed()
    expect(image).to_have_js_property("complete", True)
    assert image.evaluate("image => image.naturalWidth") > 0


def test_a_picture_from_the_wish_to_the_wall(site: Site) -> None:
    site.fleet.reset(**SEEN, **COLD)
    with site.visitor("Ann") as page:
        expect(page.get_by_text("No pictures yet")).to_be_visible()
        card = ask_for(page, "A lighthouse at dusk")
        expect(page.get_by_text("No pictures yet")).to_be_hidden()
        expect(card).to_have_attribute("data-phase", "starting", timeout=PATIENCE_MS)
        expect(card.locator(".phase")).to_contain_text("Starting a GPU")
        expect(card).to_have_attribute("data-phase", "running", timeout=PATIENCE_MS)
        seen = set()
        while (now := page.evaluate(BAR)) is not None:
            seen.add(int(now))
            page.wait_for_timeout(50)
        assert len({one for one in seen if 0 < one < 100}) >= 3, f"the bar moves: {sorted(seen)}"
        check_picture(card)
        expect(card).to_contain_text(re.compile(r"Seed \d+.*\$0\.00\d\d"))
        expect(page.locator("#said")).to_have_text("A lighthouse at dusk: Done")
        assert float(page.locator("#cost").get_attribute("data-usd") or 0) > 0
        # What the worker has saved is the same.
        page.reload()
        check_picture(card)
        expect(card).to_contain_text(re.compile(r"Seed \d+.*\$0\.00\d\d"))
        assert float(page.locator("#cost").get_attribute("data-usd") or 0) > 0


def test_a_reload_in_the_middle(site: Site) -> None:
    with site.visitor("Reloader") as page:
        card = ask_for(page, "A ship in a bottle")
        expect(card).to_have_attribute("data-phase", "running", timeout=PATIENCE_MS)
        before = percent_of(card)
        page.reload()
        expect(card).to_have_attribute("data-phase", "running")
        assert percent_of(card) >= before
        check_picture(card)


def test_two_at_once_see_only_their_own(site: Site) -> None:
    with site.visitor("Eve") as eves, site.visitor("Bob", viewport={"width": 390, "height": 844}) as bobs:
        eve, bob = ask_for(eves, "A red fox in the snow"), ask_for(bobs, "A bear on a bicycle")
        for card in (eve, bob):
            check_picture(card)
        for page in (eves, bobs):
            page.reload()
            expect(page.locator("#cards > li")).to_have_count(1)
        path = eve.locator("a").get_attribute("href")
        assert eves.request.get(site.url + str(path)).status == 200
        assert bobs.request.get(site.url + str(path)).status == 404
        # On a phone nothing is wider than the screen.
        assert bobs.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.load
def test_more_jobs_than_a_browser_has_connections(site: Site) -> None:
    site.fleet.reset(workers_min=8, workers_max=8, run_s=1.0)
    with site.visitor("Many") as page:
        cards = [ask_for(page, f"Picture number {number} of many") for number in range(7)]
        for card in cards:
            check_picture(card)


@pytest.mark.load
def test_a_deploy_and_a_session_that_is_over(site: Site, tmp_path: Path) -> None:
    site.fleet.reset(run_s=10.0)
    with Server("gthread", site.env, tmp_path / "log", factory=APP) as first:
        old = replace(site, url=first.url)
        with old.visitor("Patient") as page:
            card, other = ask_for(page, "A picture that lasts"), ask_for(page, "Another one")
            expect(card).to_have_attribute("data-phase", "running", timeout=PATIENCE_MS)
            first.stop()
            expect(card.locator(".phase")).to_have_text("Waiting for the connection", timeout=PATIENCE_MS)
            with Server("gthread", site.env, tmp_path / "log2", factory=APP, port=first.port):
                for one in (card, other):
                    check_picture(one)
                last = ask_for(page, "One that nobody sees")
                expect(last).to_have_attribute("data-phase", "running", timeout=PATIENCE_MS)
                page.context.clear_cookies()
                page.get_by_role("button", name="Cancel").click()
                expect(page.get_by_role("heading", name="Welcome")).to_be_visible(timeout=PATIENCE_MS)
    assert [error for error in site.errors if "ERR_" not in error and "401" not in error] == []
    site.errors.clear()


def test_what_a_failed_job_says(site: Site) -> None:
    site.fleet.reset(run_s=0.2, missing_models=("z_image_turbo_bf16.safetensors",))
    with site.visitor("Unlucky") as page:
        card = ask_for(page, "A picture that cannot be")
        problem = card.locator(".problem")
        expect(problem).to_have_text(re.compile(r"[A-Z].{20,}\."), timeout=PATIENCE_MS)
        sentence = problem.inner_text()
        page.reload()
        expect(problem).to_have_text(sentence)
        card.get_by_role("button", name="Remove").click()
        expect(page.get_by_text("No pictures yet")).to_be_visible()
        page.reload()
        expect(page.get_by_text("No pictures yet")).to_be_visible()


def test_a_wish_that_cannot_be_is_told_at_its_field(site: Site) -> None:
    with site.visitor("Hasty") as page:
        page.get_by_label("What it shows").fill("   ")
        page.get_by_role("button", name="Make the picture").click()
        expect(page.get_by_role("alert")).to_be_visible()
        expect(page.get_by_label("What it shows")).to_have_attribute("aria-invalid", "true")
        expect(page.get_by_label("What it shows")).to_be_focused()
        # It is the answer of the server, which Chromium also writes to its console.
        assert [error for error in site.errors if "400" not in error] == []
        site.errors.clear()


def test_cancel(site: Site) -> None:
    site.fleet.reset(**{**SEEN, "run_s": 60})
    with site.visitor("Doubtful") as page:
        card = ask_for(page, "Something else after all")
        expect(card).to_have_attribute("data-phase", "running", timeout=PATIENCE_MS)
        card.get_by_role("button", name="Cancel").press("Enter")
        expect(card.locator(".problem")).to_have_text("Cancelled", timeout=PATIENCE_MS)
        expect(page.get_by_label("What it shows")).to_be_focused()


def test_a_training_with_uploads(site: Site) -> None:
    site.fleet.endpoint("lora").remove()
    trainer = EndpointConfig(endpoint_id="lora", program="lora", workers_min=1, cold_start_s=0, run_s=2.0)
    site.fleet.simulator.add_endpoint(trainer)
    with site.visitor("Trainer") as page:
        page.get_by_role("link", name="Training").click()
        page.get_by_label("The word that will mean it").fill("rylagirl")
        images: list[Any] = [
            {"name": f"{n}.png", "mimeType": "image/png", "buffer": picture_bytes(60 * n)} for n in range(4)
        ]
        page.locator("#files").set_input_files(images[:2])
        page.get_by_role("button", name="Begin the training").click()
        expect(page.get_by_role("alert")).to_have_text("Please choose at least 3 images.")
        page.locator("#files").set_input_files(images[2:])
        expect(page.locator("#previews li")).to_have_count(4)
        page.get_by_role("button", name="Remove 1.png").click()
        page.get_by_role("button", name="Begin the training").click()
        card = page.locator("#cards > li").filter(has_text="rylagirl")
        expect(card).to_contain_text("Ready to use", timeout=PATIENCE_MS)
        expect(page.locator("#previews li")).to_have_count(0)
    (training,) = site.fleet.endpoint("lora").jobs()
    sent = site.fleet.endpoint("lora").job(training.id).input or {}
    assert [one["url"].startswith("http://127.0.0.1:1/ryla/shared/uploads/") for one in sent["images"]] == [True] * 3
