"""Profiles in Chromium: saved from /try, changed by the form, tried, deleted."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.services.api.pages.browsing import logged_in

pytestmark = [pytest.mark.browser, pytest.mark.slow]

_REFUSED = ("status of 4",)
"""Chromium's own word on what the api refused."""


@pytest.fixture
def page(browser_api: str) -> Iterator[Page]:
    with logged_in(browser_api, _REFUSED) as opened:
        yield opened


def test_a_profile_is_made_shown_changed_and_deleted(page: Page) -> None:
    page.goto("/profiles")
    page.get_by_role("link", name="New profile").click()
    page.get_by_label("Name", exact=True).fill("night-nurse")
    page.get_by_role("button", name="Show the system message").click()
    expect(page.locator("#outcome .error")).to_contain_text("no preference")
    page.get_by_label("conciseness").select_option(label="eighty words at most")
    page.get_by_text("background knowledge").click()
    page.get_by_label("terminology").select_option(label="technical terms, in general")
    page.get_by_label("In their own words").fill("I read on my phone.\nNo greetings, please.")
    expect(page.get_by_role("status").first).to_contain_text("4 of at most 12")
    page.get_by_role("button", name="Show the system message").click()
    expect(page.locator("#preview .text")).to_contain_text("I read on my phone.")
    message = page.locator("#preview .text").inner_text()
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**/profiles/night-nurse")
    assert page.locator("p.row.text").inner_text() == message
    page.get_by_role("link", name="Edit").click()
    assert page.get_by_label("In their own words").input_value() == "I read on my phone.\nNo greetings, please."
    page.get_by_label("conciseness").select_option(label="no wish")
    page.get_by_label("Note", exact=True).fill("longer is fine")
    page.get_by_role("button", name="Save as version 2").click()
    page.wait_for_url("**/profiles/night-nurse")
    assert "longer is fine" in page.locator("main").inner_text()
    assert page.locator(".facet-chips").first.locator("li").all_inner_texts() == [
        "terminology: technical terms", "“I read on my phone.”", "“No greetings, please.”",
    ]  # fmt: skip
    page.get_by_text("Version 1").click()
    expect(page.locator("details")).to_contain_text("eighty words at most")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/profiles")
    expect(page.locator("main")).to_contain_text("No profiles yet.")


@pytest.mark.parametrize("place", ["/profiles", "/new-profile", "/profiles/somebody", "/profiles/somebody/edit"])
def test_profile_pages_fit_a_phone_and_can_be_skipped_into_by_keyboard(page: Page, place: str) -> None:
    wish = {"description": "w" * 200}
    page.request.post("/v1/profiles", data={"name": "somebody", "preferences": [wish]}, headers={"Origin": page.url})
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(place)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
