"""Who sees /try, deployments and profiles, and what stands there when there is little to show."""

import re

import pytest
from fastapi import FastAPI

from services.api.app import create_key
from services.api.state import ApiState
from shared.settings import Settings
from tests.services.api.serving import served_model
from tests.services.api.support import client_of

_PAGES = ("/try", "/deployments", "/profiles", "/new-profile", "/jobs", "/models")


async def test_without_a_deployment_the_page_says_how_one_is_made(app: FastAPI, settings: Settings) -> None:
    async with client_of(app, await create_key(settings, "empty", "writer", ["write"])) as writer:
        page = (await writer.get("/try")).text
        assert "No model answers yet" in page
        assert "multifacet deployments create" in page
        assert "<form id" not in page
        assert "Nothing is deployed" in (await writer.get("/deployments")).text
        assert "No profiles yet" in (await writer.get("/profiles")).text


async def test_a_key_that_may_chat_alone_sees_try_and_is_led_there(
    app: FastAPI, state: ApiState, settings: Settings
) -> None:
    await served_model(state, "chats", "http://127.0.0.1:9")
    async with client_of(app, await create_key(settings, "default", "chat", ["chat"])) as chatter:
        page = await chatter.get("/try")
        assert page.status_code == 200
        assert re.findall(r'href="(/[a-z-]*)"', page.text.split("<nav")[1].split("</nav>")[0]) == ["/try"]
        assert "data-save" not in page.text
        for path in ("/", *_PAGES[1:]):
            answer = await chatter.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, "/try")


async def test_a_reader_sees_no_button_that_changes_anything(app: FastAPI, state: ApiState, settings: Settings) -> None:
    identifier = await served_model(state, "read-only", "http://127.0.0.1:9")
    async with client_of(app) as admin:
        wanted = {"name": "somebody", "preferences": [{"seed": "eighty words at most"}]}
        assert (await admin.post("/v1/profiles", json=wanted)).status_code == 201
        page = (await admin.get(f"/deployments/{identifier}")).text
        assert 'data-method="DELETE"' in page
        assert 'href="/try#' in page
    async with client_of(app, await create_key(settings, "default", "reader", ["read"])) as reader:
        for path in (f"/deployments/{identifier}", "/deployments", "/profiles", "/profiles/somebody"):
            page = (await reader.get(path)).text
            assert "data-post" not in page
            assert "data-deploy" not in page
            assert 'href="/try' not in page
        assert (await reader.get("/try")).headers["location"] == "/jobs"


async def test_another_projects_deployments_and_profiles_are_not_shown(
    app: FastAPI, state: ApiState, settings: Settings
) -> None:
    identifier = await served_model(state, "private-one", "http://127.0.0.1:9")
    async with client_of(app) as admin:
        wanted = {"name": "private-person", "preferences": [{"seed": "eighty words at most"}]}
        assert (await admin.post("/v1/profiles", json=wanted)).status_code == 201
    async with client_of(app, await create_key(settings, "elsewhere", "writer", ["write"])) as stranger:
        listed = (await stranger.get("/deployments")).text
        assert "another project's model" in listed
        for path in ("/try", "/deployments", "/profiles"):
            text = (await stranger.get(path)).text
            assert f">{'private-one'}<" not in text
            assert "private-person" not in text
        assert (await stranger.get(f"/deployments/{identifier}")).status_code == 404
        assert (await stranger.get("/profiles/private-person")).status_code == 404


async def test_a_reward_model_is_marked_and_not_offered_for_answers(app: FastAPI, state: ApiState) -> None:
    identifier = await served_model(state, "scores-answers", "http://127.0.0.1:9", method="rm")
    async with client_of(app) as admin:
        assert "<option>scores-answers</option>" not in (await admin.get("/try")).text
        page = (await admin.get(f"/deployments/{identifier}")).text
        assert "reward model" in page
        assert 'href="/try#' not in page


@pytest.mark.parametrize("path", _PAGES)
async def test_nobody_unknown_sees_a_page(app: FastAPI, path: str) -> None:
    async with client_of(app, None) as stranger:
        answer = await stranger.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
