"""/try in Chromium: columns stream side by side, stop, fail, go on, and are used by keyboard and on a phone."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Locator, Page, expect

from services.api.state import ApiState
from shared.metadata.repositories.serving import ServingRepository
from shared.settings import Settings
from tests.services.api.pages.browsing import logged_in, on_a_thread
from tests.services.api.serving import served_model
from tests.services.api.support import ADMIN_KEY
from tests.support.echo_server import EchoServer, running_echo_server

pytestmark = [pytest.mark.browser, pytest.mark.slow]

_REFUSED = ("status of 4", "status of 5")
"""Chromium's own word on what the api refused."""


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoServer]:
    with running_echo_server() as server:
        yield server


@pytest.fixture
def page(
    browser_api: str, browser_settings: Settings, echo: EchoServer, request: pytest.FixtureRequest
) -> Iterator[Page]:
    """Logged in, with the models `echo-a` and `echo-b`."""

    async def serve(state: ApiState) -> None:
        if not await _names(state):
            for name in ("echo-a", "echo-b"):
                await served_model(state, name, echo.address)

    on_a_thread(browser_settings, serve)
    with logged_in(browser_api, _REFUSED) as opened:
        opened.get_by_role("link", name="Try it").click()
        yield opened


async def _names(state: ApiState) -> list[str]:
    async with state.transaction() as session:
        return [model.name for model in await ServingRepository(session).serving("default")]


def _column(page: Page, number: int) -> Locator:
    return page.get_by_role("region", name=f"Column {number}")


def _ask(page: Page, instruction: str) -> None:
    page.get_by_label("Instruction").fill(instruction)
    page.get_by_role("button", name="Answer").click()


def _ended(page: Page, number: int, state: str = "done") -> str:
    """The column's answer, once it is in that end state."""
    expect(_column(page, number).locator(".state")).to_have_text(state)
    return _column(page, number).locator(".said").last.inner_text()


def _open(page: Page, *columns: dict[str, Any], **form: str) -> None:
    """The page by a link, as /try itself writes them."""
    page.goto("about:blank")
    page.goto("/try#" + quote(json.dumps({**form, "columns": columns}), safe=""))


def test_two_people_are_answered_at_the_same_time_each_by_their_own_system_message(page: Page) -> None:
    _ask(page, "together")  # the server ends neither answer before both have begun
    answers = [_ended(page, number) for number in (1, 2)]
    assert answers[0] != answers[1]
    for number, answer in enumerate(answers, 1):
        column = _column(page, number)
        column.get_by_text("System message", exact=True).click()
        system = column.locator("details .text").inner_text()
        assert len(system) > 20
        assert answer == f"You asked: together I was told: {system}"
        assert "tokens/s" in column.locator(".outcome").inner_text()
        assert "revision 1 of echo-a" in column.locator("details").inner_text()


def test_several_models_and_nobody_in_particular_are_columns_too(page: Page) -> None:
    _open(page, {"model": "echo-a"}, {"model": "echo-b"})
    page.get_by_role("button", name="Add a column").click()
    _column(page, 3).get_by_label("For").select_option(label="a person who wants …")
    _ask(page, "who?")
    page.get_by_role("dialog").get_by_label("conciseness").select_option(label="eighty words at most")
    page.get_by_role("button", name="Done").click()
    page.get_by_role("button", name="Answer").click()
    assert [_ended(page, number).endswith("I was told: nothing") for number in (1, 2, 3)] == [True, True, False]


def test_stop_ends_one_column_and_stop_all_every_one_and_the_models_server_is_told(
    page: Page, echo: EchoServer
) -> None:
    echo.left.clear()
    _ask(page, "hold")
    for number in (1, 2):
        expect(_column(page, number).locator(".said")).to_contain_text("…")
    _column(page, 1).get_by_role("button", name="Stop").click()
    assert _ended(page, 1, "stopped").startswith("You asked:")
    assert echo.left.wait(20)
    assert _column(page, 2).locator(".state").inner_text() == "streaming"
    page.get_by_role("button", name="Stop all").click()
    assert _ended(page, 2, "stopped").startswith("You asked:")
    expect(page.get_by_role("button", name="Answer")).to_be_enabled()
    expect(page.get_by_role("button", name="Stop all")).to_be_hidden()


def test_an_error_in_mid_stream_is_told_and_what_came_before_it_stays(page: Page) -> None:
    _ask(page, "break")
    for number in (1, 2):
        assert _ended(page, number, "failed") == "You asked:"
        error = _column(page, number).locator(".error").inner_text()
        assert error[0].isupper()
        assert error.endswith(".")
    expect(page.get_by_role("status")).to_contain_text("failed:")


def test_a_refusal_is_told_as_a_sentence(page: Page) -> None:
    _open(page, {"model": "gone"}, {"model": "echo-a", "person": "profile:nobody-knows"}, instruction="hello")
    page.get_by_role("button", name="Answer").click()
    for number, name in ((1, "gone"), (2, "nobody-knows")):
        expect(_column(page, number).locator(".state")).to_have_text("failed")
        error = _column(page, number).locator(".error").inner_text()
        assert name in error
        assert "{" not in error


def test_a_reply_goes_on_with_the_conversation_of_its_column(page: Page, echo: EchoServer) -> None:
    _ask(page, "first")
    said = _ended(page, 1)
    _column(page, 1).get_by_label("Reply").fill("and then?")
    _column(page, 1).get_by_role("button", name="Send").click()
    expect(_column(page, 1).locator(".said")).to_have_count(2)
    assert _ended(page, 1).startswith("You asked: and then?")
    assert [message["content"] for message in echo.requests[-1]["messages"][1:]] == ["first", said, "and then?"]
    assert _column(page, 2).locator(".said").count() == 1


def test_a_system_message_and_earlier_turns_are_sent_after_the_persons(page: Page, echo: EchoServer) -> None:
    page.get_by_text("System message and earlier turns").click()
    page.get_by_label("System message", exact=True).fill("Speak as a pirate.")
    page.get_by_role("button", name="Add an earlier turn").click()
    page.get_by_label("They wrote").fill("Ahoy")
    page.get_by_label("The model answered").fill("Arr")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Tokens, at most").fill("99")
    _ask(page, "Where to?")
    assert "Speak as a pirate." in _ended(page, 1)
    sent = echo.requests[-1]
    assert [message["content"] for message in sent["messages"]][-3:] == ["Ahoy", "Arr", "Where to?"]
    assert sent["messages"][0]["content"].endswith("\n\nSpeak as a pirate.")
    assert (sent["seed"], sent["max_tokens"]) == (7, 99)


def test_preferences_are_saved_as_a_profile_that_all_columns_offer(page: Page) -> None:
    _open(page, {"person": "own", "preferences": [{"seed": "eighty words at most"}]}, {"person": "nobody"})

    def save() -> None:
        _column(page, 1).get_by_label("For").select_option("own")
        _column(page, 1).get_by_role("button", name="Save as profile").click()
        page.get_by_role("dialog").get_by_label("Name").fill("saved-here")
        page.get_by_role("dialog").get_by_role("button", name="Save").click()

    save()
    expect(_column(page, 1).get_by_label("For")).to_have_value("profile:saved-here")
    save()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("already")
    page.get_by_role("button", name="Cancel").click()
    _column(page, 1).get_by_label("For").select_option("profile:saved-here")
    _column(page, 2).get_by_label("For").select_option("profile:saved-here")
    _ask(page, "who am I?")
    assert "80 words" in _ended(page, 1)
    assert _ended(page, 2) == _ended(page, 1)
    assert "Profile saved-here, version 1" in (_column(page, 2).locator("details").text_content() or "")


def test_markup_in_an_answer_is_shown_as_text(page: Page) -> None:
    markup = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    _ask(page, markup)
    assert markup in _ended(page, 1)
    assert page.locator("#columns img, #columns script").count() == 0


def test_the_form_lies_in_the_link_behind_the_fragment_and_never_in_an_address_that_is_sent(page: Page) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    page.get_by_label("Instruction").fill("a secret question")
    _column(page, 2).get_by_label("Model").select_option("echo-b")
    page.get_by_role("button", name="Link to this").click()
    link = page.get_by_role("dialog").get_by_role("textbox").input_value()
    page.goto("about:blank")
    page.goto(link)
    assert page.get_by_label("Instruction").input_value() == "a secret question"
    assert _column(page, 2).get_by_label("Model").input_value() == "echo-b"
    assert _column(page, 2).get_by_role("list", name="Preferences").inner_text().startswith("conciseness: expansive")
    assert _column(page, 1).locator(".said").count() == 0, "a link asks nothing by itself"
    _ask(page, "a secret question")
    _ended(page, 2)
    assert sent
    assert not any("secret" in url.split("#")[0] for url in sent)


def test_a_link_that_somebody_made_up_opens_the_page_with_what_can_be_read_of_it(page: Page) -> None:
    for fragment in ("%", "null", "[1]", '{"columns":[3,null],"turns":[1],"instruction":["x"],"seed":{}}'):
        page.goto("about:blank")
        page.goto("/try#" + (fragment if fragment == "%" else quote(fragment)))
        expect(_column(page, 1)).to_be_visible()
        assert page.get_by_label("Instruction").input_value() == ""


def test_everything_is_reached_and_told_by_keyboard(page: Page) -> None:
    def focus_on(place: Locator) -> None:
        for _ in range(60):
            if place.evaluate("element => element === document.activeElement"):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"{place} is not reached by Tab")

    page.reload()
    focus_on(page.get_by_label("Instruction"))
    page.keyboard.type("typed")
    focus_on(_column(page, 1).get_by_role("button", name="Choose preferences"))
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    focus_on(dialog.get_by_label("layout"))
    page.keyboard.type("numbered")
    focus_on(dialog.get_by_label("In their own words"))
    page.keyboard.type("I read on my phone.")
    focus_on(dialog.get_by_role("button", name="Done"))
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Choose preferences", "focus is where it was"
    for wish in ("conciseness: brief", "numbered points", "“I read on my phone.”"):
        expect(_column(page, 1).get_by_role("list", name="Preferences")).to_contain_text(wish)
    page.reload()
    focus_on(page.get_by_role("button", name="Answer"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("is done: ")
    assert "phone" in _ended(page, 1)
    assert page.get_by_role("status").get_attribute("aria-live") in (None, "polite")


def test_four_answered_columns_fit_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    _open(page, *[{"model": "echo-a"}] * 4, instruction="w" * 300)
    expect(page.get_by_role("button", name="Add a column")).to_be_disabled()
    page.get_by_role("button", name="Answer").click()
    for number in range(1, 5):
        _ended(page, number)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    _column(page, 1).get_by_label("For").select_option("own")
    _column(page, 1).get_by_role("button", name="Choose preferences").click()
    assert page.evaluate("document.querySelector('dialog[open]').scrollWidth") <= 390
    page.keyboard.press("Escape")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("kind", ["curl", "Python"])
def test_the_code_of_a_column_asks_the_same(page: Page, echo: EchoServer, kind: str) -> None:
    _ask(page, 'It\'s "quoted" \\ with\nlines, ü and 😀')
    _ended(page, 1)
    _ended(page, 2)
    _column(page, 1).get_by_text("System message", exact=True).click()
    system = _column(page, 1).locator("details .text").inner_text()
    _column(page, 1).get_by_role("button", name=kind).click()
    code = page.get_by_role("dialog").get_by_role("textbox").input_value()
    command = ["bash", "-c", code] if kind == "curl" else [sys.executable, "-c", code]
    environment = {**os.environ, "MULTIFACET_API_KEY": ADMIN_KEY}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    again = echo.requests[-1]
    assert again["messages"][-1]["content"] == 'It\'s "quoted" \\ with\nlines, ü and 😀'
    assert again["messages"][0] == {"role": "system", "content": system}
    assert (again["temperature"], again["max_tokens"]) == (1, 512)
