"""The blind page in Chromium: made from a job, judged by keyboard, resumed, undone, and blind to the end."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Response, Route, expect

from services.api.state import ApiState
from shared.settings import Settings
from tests.services.api.answered import answered_job
from tests.services.api.pages.browsing import logged_in, on_a_thread

pytestmark = [pytest.mark.browser, pytest.mark.slow]

_REFUSED = ("status of 4", "status of 5")


@pytest.fixture(scope="module")
def job(browser_api: str, browser_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("answered")

    async def make(state: ApiState) -> str:
        return (await answered_job(state, folder, count=5)).id

    return str(on_a_thread(browser_settings, make))


@pytest.fixture
def page(browser_api: str, job: str) -> Iterator[Page]:
    with logged_in(browser_api, _REFUSED) as opened:
        yield opened


def make_task(page: Page, name: str) -> None:
    page.goto("/annotations")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("First candidate").select_option("tuned")
    page.get_by_label("Second candidate").select_option("base")
    page.get_by_role("button", name="Make the task").click()
    page.wait_for_url("**/annotations/annotation_*")


def test_pairs_are_judged_by_keyboard_undone_and_resumed_and_nothing_tells_whose_they_are(page: Page) -> None:
    loaded: list[str] = []
    make_task(page, "Which would you rather have?")

    def keep(response: Response) -> None:
        if response.request.resource_type in {"document", "fetch", "xhr"}:
            loaded.append(response.text())

    page.on("response", keep)
    page.reload()
    page.get_by_label("Your name").fill("Ada")
    page.keyboard.press("Enter")
    expect(page.locator("#progress")).to_have_text("Ada: 0 of 3 judged")
    expect(page.locator("#instruction")).to_contain_text("Question <b>")
    expect(page.locator("#preferences li")).to_contain_text("Wants calm words")
    shown = page.locator("#left").inner_text()
    page.keyboard.press("1")
    expect(page.locator("#progress")).to_have_text("Ada: 1 of 3 judged")
    page.keyboard.press("u")
    expect(page.locator("#progress")).to_have_text("Ada: 0 of 3 judged")
    expect(page.locator("#left")).to_have_text(shown)
    page.keyboard.press("2")
    expect(page.locator("#progress")).to_have_text("Ada: 1 of 3 judged")
    page.reload()
    expect(page.locator("#progress")).to_have_text("Ada: 1 of 3 judged")
    page.keyboard.press("3")
    expect(page.locator("#progress")).to_have_text("Ada: 2 of 3 judged")
    page.keyboard.press("4")
    expect(page.locator("#finished")).to_contain_text("You have judged 3 of 3 pairs.")
    assert len(loaded) >= 6
    # The simulated answers name their candidate themselves, in capitals; nothing else may.
    assert not any("tuned" in text or "swapped" in text or "first" in text for text in loaded)
    page.get_by_role("button", name="Somebody else").click()
    page.get_by_label("Your name").fill("Bob")
    page.get_by_role("button", name="Begin").click()
    expect(page.locator("#progress")).to_have_text("Bob: 0 of 3 judged")
    page.get_by_role("button", name="Both are good").click()
    expect(page.locator("#progress")).to_have_text("Bob: 1 of 3 judged")
    page.goto("/annotations")
    expect(page.locator("tbody")).to_contain_text("Ada 3/3, Bob 1/3")
    page.get_by_role("link", name="Results").first.click()
    expect(page.locator("main")).to_contain_text("Cohen's kappa, Ada and Bob")
    expect(page.locator("main")).to_contain_text("Says what most people say")


def test_a_refused_verdict_says_so_and_loses_nothing(page: Page) -> None:
    away = False

    def answer(route: Route) -> None:
        if away:
            route.fulfill(status=503, json={"title": "Service Unavailable", "detail": "away"})
        else:
            route.continue_()

    # From the start: a request right after the browser was told to intercept some may get through.
    page.route("**/annotations", answer)
    make_task(page, "Again")
    page.get_by_label("Your name").fill("Eve")
    page.keyboard.press("Enter")
    expect(page.locator("#progress")).to_have_text("Eve: 0 of 3 judged")
    away = True
    page.keyboard.press("1")
    expect(page.locator("#outcome")).to_contain_text("Nothing was lost")
    away = False
    page.keyboard.press("1")
    expect(page.locator("#progress")).to_have_text("Eve: 1 of 3 judged")


def test_the_pages_fit_a_phone(page: Page) -> None:
    make_task(page, "On a phone")
    place = page.url
    page.set_viewport_size({"width": 390, "height": 800})
    page.get_by_label("Your name").fill("Kim")
    page.keyboard.press("Enter")
    expect(page.locator("#progress")).to_have_text("Kim: 0 of 3 judged")
    for url in (place, "/annotations", f"{place}/results"):
        page.goto(url)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
