"""Benches in Chromium: a file added, its items reviewed by keyboard and mouse, by two people, and taken up again later."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from playwright.sync_api import Page, expect

from shared.settings import Settings
from tests.services.api.benches import bench_of_job
from tests.services.api.pages.browsing import logged_in, on_a_thread
from tests.support.benches import bench_facet, bench_line, bench_row

pytestmark = [pytest.mark.browser, pytest.mark.slow]

_REFUSED = ("status of 4", "Response Status Error Code 4")
"""The words of Chromium and of htmx on what the api refused."""


@pytest.fixture
def page(browser_api: str) -> Iterator[Page]:
    with logged_in(browser_api, _REFUSED) as opened:
        yield opened


def _made(settings: Settings, folder: Path) -> str:
    rows = [bench_row(0, bench_facet(0), bench_facet(1)), bench_row(1, bench_facet(0))]
    made: str = on_a_thread(settings, lambda state: bench_of_job(state, folder, rows, "to review"))
    return made


def _heading(page: Page, text: str) -> None:
    expect(page.locator("#review h2")).to_contain_text(text)


def test_a_bench_is_reviewed_by_keyboard_and_taken_up_where_it_was_left(
    page: Page, browser_settings: Settings, tmp_path: Path
) -> None:
    bench = _made(browser_settings, tmp_path)
    page.goto("/benches")
    page.locator(f"a[href='/benches/{bench}']").click()
    _heading(page, "Item 1 of 3")
    expect(page.get_by_role("button", name="Keep")).to_be_disabled()
    page.keyboard.press("k")
    expect(page.get_by_label("Reviewer")).to_be_focused()
    page.keyboard.type("ada")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Keep")).to_be_enabled()
    page.locator("h1").click()
    page.keyboard.press("k")
    _heading(page, "Item 2 of 3")
    page.keyboard.press("w")
    page.keyboard.type("knows no brevity")
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    _heading(page, "Item 3 of 3")
    expect(page.locator("#review")).to_contain_text("2 of 3 decided (1 kept, 1 dropped)")

    page.goto(f"/benches/{bench}")
    _heading(page, "Item 3 of 3")
    assert page.get_by_label("Reviewer").input_value() == "ada"
    page.get_by_label("Show").select_option("dropped")
    _heading(page, "Item 2 of 3")
    assert page.get_by_label("Why").input_value() == "knows no brevity"
    page.get_by_label("Show").select_option("undecided")
    page.get_by_role("button", name="Keep").click()
    expect(page.locator("#review .empty")).to_contain_text("decided about every item")
    review = page.request.get(f"/v1/benches/{bench}").json()["review"]
    assert review == {"kept": 2, "dropped": 1, "undecided": 0}


def test_a_second_reviewer_sees_what_others_said_only_on_request(
    page: Page, browser_settings: Settings, tmp_path: Path
) -> None:
    bench = _made(browser_settings, tmp_path)
    item = page.request.get(f"/v1/benches/{bench}/items").json()["items"][0]["id"]
    body = {"decision": "drop", "reason": "off topic", "reviewer": "bob"}
    page.request.put(f"/v1/benches/{bench}/items/{item}/review", data=body, headers={"Origin": page.url})
    page.goto(f"/benches/{bench}")
    page.get_by_label("Reviewer").fill("cy")
    page.get_by_label("Reviewer").press("Tab")
    _heading(page, "Item 2 of 3")  # what was on show before the name was known: the first that nobody decided about
    page.get_by_role("button", name="Previous").click()
    _heading(page, "Item 1 of 3")
    expect(page.get_by_text("off topic")).to_be_hidden()
    page.get_by_text("What others decided").click()
    expect(page.get_by_text("off topic")).to_be_visible()
    expect(page.get_by_text("brevity, level 5").first).to_be_visible()
    page.get_by_text("Does the answer show brevity?").first.click()
    expect(page.get_by_text("brevity, level 5").first).to_be_hidden()
    page.get_by_role("button", name="Next").click()
    _heading(page, "Item 2 of 3")


def test_a_file_is_added_and_one_without_items_is_refused_line_by_line(page: Page, tmp_path: Path) -> None:
    page.goto("/benches")
    panel = page.locator("details.panel")
    if panel.get_attribute("open") is None:
        page.get_by_text("Add a file").click()
    bad, good = tmp_path / "bad.jsonl", tmp_path / "good.jsonl"
    bad.write_bytes(orjson.dumps(bench_line(rubrics=[])))
    good.write_bytes(orjson.dumps(bench_line()) + b"\n" + orjson.dumps(bench_line()))
    page.get_by_label("File").set_input_files(bad)
    page.get_by_role("button", name="Add").click()
    expect(page.locator("#add-bench .error")).to_contain_text("line 1: no_rubrics")
    page.get_by_label("File").set_input_files(good)
    page.get_by_label("Name", exact=True).fill("of a file")
    page.get_by_role("button", name="Add").click()
    page.wait_for_url("**/benches/bench_*")
    expect(page.locator("h1")).to_have_text("of a file")
    expect(page.locator(".notice")).to_contain_text("duplicate: 1")


@pytest.mark.parametrize("place", ["/benches", "/benches/{bench}"])
def test_pages_of_benches_fit_a_phone(page: Page, browser_settings: Settings, tmp_path: Path, place: str) -> None:
    bench = _made(browser_settings, tmp_path)
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(place.format(bench=bench))
    if "{" in place:
        _heading(page, "Item 1 of 3")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"


def test_a_review_that_cannot_be_loaded_says_so(page: Page, browser_settings: Settings, tmp_path: Path) -> None:
    bench = _made(browser_settings, tmp_path)
    page.route("**/review?*", lambda route: route.fulfill(status=410, body="gone"))
    page.goto(f"/benches/{bench}")
    expect(page.locator("#review .error")).to_contain_text("cannot be loaded")
