"""Evaluations in Chromium: every chart is drawn, the page fits a phone, and one evaluation is put beside another."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from shared.settings import Settings
from tests.services.api.evaluations import finish_evaluation, finished_evaluation, stored_evaluation
from tests.services.api.pages.browsing import logged_in, on_a_thread

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def page(browser_api: str) -> Iterator[Page]:
    with logged_in(browser_api, ()) as opened:
        yield opened


def _made(settings: Settings, folder: Path, name: str) -> str:
    return str(on_a_thread(settings, lambda state: finished_evaluation(state, folder, name)).id)


def test_charts_are_drawn_and_another_evaluation_is_chosen_beside(
    page: Page, browser_settings: Settings, tmp_path: Path
) -> None:
    first, second = (_made(browser_settings, tmp_path, name) for name in ("first", "second"))
    page.goto("/evaluations")
    page.get_by_role("link", name="first", exact=True).click()
    expect(page.locator(".charts figure")).not_to_have_count(0)
    charts = page.locator(".charts figure").count()
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
    expect(page.locator(".js-plotly-plot")).to_have_count(charts)
    page.get_by_label("Beside").select_option(value=second)
    page.wait_for_url(f"**/evaluations/{first}?beside={second}")
    expect(page.locator(".leaderboard")).to_have_count(2)
    expect(page.locator(".js-plotly-plot")).to_have_count(2 * charts)


def test_the_figures_appear_by_themselves_when_the_job_ends(
    page: Page, browser_settings: Settings, tmp_path: Path
) -> None:
    job = on_a_thread(browser_settings, stored_evaluation)
    page.goto(f"/evaluations/{job.id}")
    expect(page.locator("#live")).to_contain_text("The figures come when every verdict is in")
    on_a_thread(browser_settings, lambda state: finish_evaluation(state, tmp_path, job))
    expect(page.locator(".leaderboard")).to_contain_text("tuned", timeout=15_000)
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()


def test_the_pages_of_evaluations_fit_a_phone(page: Page, browser_settings: Settings, tmp_path: Path) -> None:
    job = _made(browser_settings, tmp_path, "on a phone")
    page.set_viewport_size({"width": 390, "height": 800})
    for place in ("/evaluations", f"/evaluations/{job}"):
        page.goto(place)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
