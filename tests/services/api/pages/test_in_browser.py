"""Pages in Chromium over an api that asks for keys: log in, look around, log out."""

import asyncio
from pathlib import Path

import pytest

from shared.settings import Settings
from tests.services.api.support import ADMIN_KEY, job_with_rows, running_app, running_server, state_of
from tests.support.browser import browser_page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

_REFUSED = ("status of 401",)
"""Chromium's own word on a login that was refused."""


async def _job(settings: Settings, folder: Path, rows: int) -> str:
    async with running_app(settings) as app:
        return (await job_with_rows(state_of(app), folder, rows, part_rows=2000)).id


def test_a_key_opens_the_pages_until_the_person_logs_out(settings: Settings, tmp_path: Path) -> None:
    job = asyncio.run(_job(settings, tmp_path, 60))
    with running_server(settings) as url, browser_page(url, _REFUSED) as page:
        page.goto(f"/jobs/{job}")
        assert page.url == f"{url}/login"
        page.get_by_label("API key").fill("mf_not-a-key")
        page.get_by_role("button", name="Log in").click()
        assert "unknown, expired or revoked" in page.get_by_role("alert").inner_text()
        page.get_by_label("API key").fill(ADMIN_KEY)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/jobs")
        page.goto(f"/jobs/{job}")
        assert page.locator("h1").inner_text().startswith("small")
        assert page.evaluate("document.cookie") == ""
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url("**/login")
        page.goto(f"/jobs/{job}")
        assert page.url == f"{url}/login"


def test_the_counts_of_a_large_data_set_arrive_after_its_rows_and_filter_them(
    settings: Settings, tmp_path: Path
) -> None:
    job = asyncio.run(_job(settings, tmp_path, 6_000))
    with running_server(settings) as url, browser_page(url) as page:
        page.goto("/login")
        page.get_by_label("API key").fill(ADMIN_KEY)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/jobs")
        page.goto(f"/jobs/{job}/data")
        page.locator(".js-plotly-plot").wait_for()
        assert page.locator("article.row").count() == 10
        page.locator("select[name=subdimension]").select_option("depth 3")
        page.wait_for_url("**subdimension=depth**")
        assert "Question number 3?" in page.locator("article.row").first.inner_text()
        page.get_by_label("Text contains").fill("number 5999?")
        page.get_by_role("button", name="Show").click()
        page.wait_for_url("**5999**")
        assert page.locator("article.row").count() == 1
