"""Deployments in Chromium: deployed from a model's page, followed without reloading, changed, rolled back, stopped."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from services.api.state import ApiState
from shared.domain.deployments import DeploymentTarget, ServerOptions
from shared.metadata.repositories.deployments import DeploymentRepository
from shared.settings import Settings
from tests.services.api.pages.browsing import logged_in, on_a_thread
from tests.services.api.serving import served_model
from tests.services.api.trainings import register, store_files, training_job

pytestmark = [pytest.mark.browser, pytest.mark.slow]

_REFUSED = ("status of 4",)
"""Chromium's own word on what the api refused."""


@pytest.fixture
def page(browser_api: str) -> Iterator[Page]:
    with logged_in(browser_api, _REFUSED) as opened:
        opened.on("dialog", lambda dialog: dialog.accept())
        yield opened


def test_a_model_is_deployed_from_its_page_and_the_deployment_is_stopped(
    page: Page, browser_settings: Settings, tmp_path: Path
) -> None:
    async def model(state: ApiState) -> str:
        job = await training_job(state)
        await store_files(state, job, tmp_path, "dpo")
        return await register(state, job, "dpo", name="tiny", method="dpo")

    page.goto(f"/models/{on_a_thread(browser_settings, model)}")
    page.get_by_text("Deploy", exact=True).first.click()
    name = page.get_by_label("Name, which clients give")
    assert name.input_value() == "tiny"
    name.fill("under-a-name")
    page.get_by_label("Tokens of prompt and answer together").fill("64")
    page.get_by_role("button", name="Deploy").click()
    page.wait_for_url("**/deployments/dep_*")
    assert page.locator("h1").inner_text().startswith("under-a-name waiting")
    assert "maximum_total_tokens: 64" in page.locator("main").inner_text()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("h1 .state")).to_have_text("stopped")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)


def test_the_list_follows_what_happens_without_reloading(page: Page, browser_settings: Settings) -> None:
    page.goto("/deployments")
    page.evaluate("window.notReloaded = true")
    page.get_by_text("Nothing is deployed").wait_for()
    on_a_thread(browser_settings, lambda state: served_model(state, "came-later", "http://127.0.0.1:9"))
    row = page.get_by_role("row", name="came-later").first
    expect(row).to_contain_text("ready")
    expect(page.get_by_role("region", name="servers")).to_contain_text("launcher/came-later")
    assert page.evaluate("window.notReloaded") is True
    with page.expect_navigation():
        row.get_by_role("button", name="Stop").click()
    page.get_by_text(re.compile(r"^\d+ stopped")).click()
    with page.expect_response("**/deployments/list"):
        pass
    expect(page.get_by_role("region", name="stopped deployments")).to_contain_text("came-later")


def test_another_model_under_the_name_is_a_revision_that_can_be_rolled_back(
    page: Page, browser_settings: Settings
) -> None:
    async def provider(state: ApiState) -> str:
        async with state.transaction() as session:
            target = DeploymentTarget(provider="simulator", model="simulator-large")
            return (await DeploymentRepository(session).deploy("default", "changes", target, ServerOptions())).id

    page.goto(f"/deployments/{on_a_thread(browser_settings, provider)}")
    expect(page.get_by_role("button", name="Roll back")).to_have_count(0)
    page.get_by_text("Serve another model under this name").click()
    page.get_by_role("combobox", name="Model").select_option(label="simulator / simulator-small (no language model)")
    expect(page.get_by_label("Server")).to_be_hidden()
    page.get_by_role("button", name="Deploy").click()
    revisions = page.get_by_role("region", name="revisions").locator("tbody tr")
    expect(revisions).to_have_count(2)
    expect(revisions.first).to_contain_text("simulator-small")
    page.get_by_role("button", name="Roll back").click()
    expect(revisions).to_have_count(3)
    expect(revisions.first).to_contain_text("simulator-large")
    expect(page.locator(".events")).to_contain_text("back to what revision 1 served")


def test_what_the_api_refuses_is_told_in_the_form(page: Page) -> None:
    page.goto("/deployments")
    page.get_by_text("Deploy a model").click()
    page.get_by_role("combobox", name="Model").select_option(label="simulator / simulator-small (no language model)")
    page.get_by_label("Name, which clients give").fill("x" * 100)
    page.route("**/v1/deployments", lambda route: route.continue_(post_data='{"name": "-", "target": {}}'))
    page.get_by_role("button", name="Deploy").click()
    expect(page.get_by_role("alert")).to_contain_text("/name")
    expect(page.get_by_role("button", name="Deploy")).to_be_enabled()


@pytest.mark.parametrize("place", ["/deployments", "/deployments/{id}"])
def test_deployment_pages_fit_a_phone_and_can_be_skipped_into_by_keyboard(
    page: Page, browser_settings: Settings, place: str
) -> None:
    name = f"n{'-' * 90}{len(place)}"
    identifier = on_a_thread(
        browser_settings, lambda state: served_model(state, name, "http://127.0.0.1:9", method="rm")
    )
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(place.format(id=identifier))
    expect(page.get_by_text("reward model").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
