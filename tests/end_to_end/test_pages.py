"""The pages in a real browser, over a running system."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.end_to_end.conftest import Driver
from tests.support.browser import browser_page

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def finished_job(embedded: Driver) -> str:
    job_id = embedded.submit(name="pages <b>& co</b>", sources=[{"bundled": "demo"}])
    assert embedded.finished(job_id)["state"] == "succeeded"
    return job_id


@pytest.fixture
def page(driver: Driver) -> Iterator[Page]:
    with browser_page(driver.system.api_url) as opened:
        yield opened


def test_the_list_leads_to_a_job_and_its_name_is_only_text(page: Page, finished_job: str) -> None:
    page.goto("/")
    page.get_by_role("link", name="pages <b>& co</b>").first.click()
    assert page.url.endswith(f"/jobs/{finished_job}")
    assert page.locator("table.stages tbody th").all_inner_texts() == [
        "curate", "augment", "compose", "respond", "assemble", "report",
    ]  # fmt: skip
    assert page.locator("h1 .state").inner_text() == "succeeded"


def test_a_job_submitted_by_the_form_is_followed_without_reloading(page: Page, driver: Driver) -> None:
    driver.faults({"default": {"latency_ms": 300}})
    page.goto("/jobs/new")
    page.get_by_label("Name", exact=True).fill("from the form")
    page.get_by_role("button", name="Estimate").click()
    page.get_by_text("calls, costing $").wait_for()
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/jobs/job_*")
    page.evaluate("window.notReloaded = true")
    page.locator("h1 .state.succeeded").wait_for(timeout=120_000)
    assert page.evaluate("window.notReloaded") is True


def test_the_explorer_shows_facets_filters_and_the_sunburst(page: Page, finished_job: str) -> None:
    page.goto(f"/jobs/{finished_job}/data")
    page.locator(".js-plotly-plot").wait_for()
    assert page.locator("article.row").count() == 10
    assert page.locator("article.row").first.locator(".facet").count() == 3
    page.locator("select[name=dimension]").select_option("style")
    page.wait_for_url("**dimension=style**")
    assert page.locator("article.row").count() > 0
    page.goto(f"/jobs/{finished_job}/data?dataset=curate-rejected&split=all")
    rejected = page.locator("article.row").all_inner_texts()
    assert rejected
    assert all(any(reason in text for reason in ("persona", "duplicate", "too_short")) for text in rejected)


@pytest.mark.parametrize("place", ["/jobs", "/jobs/new", "/jobs/{job}", "/jobs/{job}/data", "/models"])
def test_pages_fit_a_phone_and_can_be_skipped_into_by_keyboard(page: Page, finished_job: str, place: str) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(place.format(job=finished_job))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"


def test_browser_files_are_served_by_us(driver: Driver) -> None:
    folder = Path(__file__).parents[2] / "services" / "api" / "static" / "vendor"
    assert {path.name for path in folder.iterdir()} == {"htmx.min.js", "plotly.min.js"}
