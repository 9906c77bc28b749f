"""A browser on the api's own pages, and work on its database while a page is open."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Page

from services.api.state import ApiState
from shared.settings import Settings
from tests.services.api.support import ADMIN_KEY, running_app, state_of
from tests.support.browser import browser_page


@contextmanager
def logged_in(url: str, expected_errors: tuple[str, ...]) -> Iterator[Page]:
    """A page of a running api, logged in with the administrator's key. `expected_errors` as `browser_page` takes them."""
    with browser_page(url, expected_errors) as page:
        page.goto("/login")
        page.get_by_label("API key").fill(ADMIN_KEY)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/jobs")
        yield page


def on_a_thread(settings: Settings, work: Callable[[ApiState], Awaitable[Any]]) -> Any:
    """Work on the database while a page is open: Playwright's loop runs on this thread."""

    async def go() -> Any:
        async with running_app(settings) as app:
            return await work(state_of(app))

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, go()).result()
