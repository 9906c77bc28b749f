"""A real browser on a page of ours; whatever the page complains of or fetches elsewhere fails the test."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, sync_playwright

_BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def browser_page(base_url: str, expected_errors: tuple[str, ...] = ()) -> Iterator[Page]:
    """A new page; console messages that hold one of `expected_errors` are no fault. Skips where there is no Chromium."""
    if _BROWSER is None:
        pytest.skip("no Chromium on this machine")
    faults: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_BROWSER, args=["--no-sandbox"])
        opened = browser.new_page(base_url=base_url, viewport={"width": 1280, "height": 900})
        opened.set_default_timeout(30_000)
        opened.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        opened.on("pageerror", lambda error: faults.append(str(error)))
        opened.on(
            "request",
            lambda request: (
                faults.append(request.url) if not request.url.startswith((base_url, "data:", "blob:")) else None
            ),
        )
        yield opened
        browser.close()
    assert [fault for fault in faults if not any(expected in fault for expected in expected_errors)] == []
