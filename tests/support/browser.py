"""A headless Chromium for tests of pages. Where none is installed such tests are skipped, unless they are required.

`RYLA_BROWSER` names the program, or is `required`: then a missing browser is a failure, as in CI.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

__all__ = ["launched"]

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

#: Nothing of its own may go out: there is no network, and the tests speak to this machine alone.
_ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser, closed at the end. Skips the test, visibly, where there is none."""
    wanted = os.environ.get("RYLA_BROWSER", "")
    named = wanted if wanted not in ("", "required") else None
    program = named or next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        if wanted:
            pytest.fail("RYLA_BROWSER is required, and no Chromium is installed: apt-get install chromium")
        pytest.skip("no browser: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()
