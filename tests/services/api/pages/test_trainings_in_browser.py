"""Trainings in Chromium: added by the form, watched live, looked at as models."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from shared.settings import Settings
from tests.services.api.pages.browsing import logged_in, on_a_thread
from tests.services.api.trainings import log_steps, trained_job, training_job

pytestmark = [pytest.mark.browser, pytest.mark.slow]

_REFUSED = ("status of 422",)
"""Chromium's own word on what the api refused."""


@pytest.fixture
def page(browser_api: str) -> Iterator[Page]:
    with logged_in(browser_api, _REFUSED) as opened:
        yield opened


def test_a_training_is_followed_without_reloading_and_its_past_is_there_after_a_reload(
    page: Page, browser_settings: Settings
) -> None:
    job = on_a_thread(browser_settings, training_job)
    page.goto(f"/jobs/{job.id}")
    page.evaluate("window.notReloaded = true")
    for last in (5, 12):
        on_a_thread(browser_settings, lambda state, last=last: log_steps(state, job.id, range(last - 4, last + 1)))
        page.get_by_text(f"step {last} of 20").wait_for()
    assert page.evaluate("window.notReloaded") is True
    page.reload()
    section = page.locator("section.training").first
    assert "step 12 of 20" in section.inner_text()
    drawn = section.locator("path.first").get_attribute("d") or ""
    assert drawn.count("L") + drawn.count("M") == 10


def test_a_job_with_trainings_is_submitted_by_the_form_after_its_faults_were_shown(page: Page) -> None:
    page.goto("/jobs/new")
    for preset in ("smoke-cpu", "janus-dpo"):
        page.get_by_role("button", name="Add a training").click()
        page.get_by_label("Preset").last.select_option(label=preset)
    first, second = page.get_by_label("Options, as YAML").all()
    assert "name: sft" in first.input_value()
    assert "name: dpo" in second.input_value()
    assert "base: {stage: sft}" in second.input_value()
    page.get_by_role("button", name="Add a training").click()  # one that stays `none` is passed over
    first.fill(first.input_value().replace("epochs: 1", "epochs: -1"))
    second.fill(second.input_value().replace("beta: 0.1", "betta: 0.1"))
    page.get_by_role("button", name="Submit").click()
    entries = page.locator(".training-entry")
    assert "epochs" in entries.nth(0).get_by_role("alert").inner_text()
    assert "betta" in entries.nth(1).get_by_role("alert").inner_text()
    assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
    first.fill(first.input_value().replace("epochs: -1", "epochs: 1"))
    second.fill(second.input_value().replace("betta: 0.1", "beta: 0.1\nmethod ="))
    page.get_by_role("button", name="Submit").click()
    entries.nth(1).get_by_text("this is no YAML").wait_for()
    assert entries.nth(0).get_by_role("alert").is_hidden()
    second.fill(second.input_value().replace("\nmethod =", ""))
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/jobs/job_*")
    assert page.locator("section.training h3").all_inner_texts() == ["sft pending", "dpo pending"]


def test_a_job_that_only_trains_needs_a_training_that_names_its_data(page: Page) -> None:
    page.goto("/jobs/new")
    page.get_by_label("none: only train").check()
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("nothing to do").wait_for()
    page.get_by_role("button", name="Add a training").click()
    page.get_by_label("Preset").select_option(label="smoke-cpu")
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("would train on the collection of this job, which has none").first.wait_for()
    assert page.url.endswith("/jobs/new"), "nothing was submitted"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_model_pages_draw_their_curves_and_fit_a_phone(
    page: Page, browser_settings: Settings, tmp_path: Path, scheme: str
) -> None:
    _, models = on_a_thread(browser_settings, lambda state: trained_job(state, tmp_path))
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto("/models")
    page.get_by_role("link", name="tiny-dpo").first.click()
    page.wait_for_url(f"**/models/{models['dpo']}")
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 6")
    for place in (f"/models/{models['dpo']}", "/models", "/jobs/new"):
        page.goto(place)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
