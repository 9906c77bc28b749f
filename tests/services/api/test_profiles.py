"""Profiles over HTTP: versions that never change, messages by rule or by a teacher, and what is refused."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from services.api.live_models import answered_within
from services.api.problems import Problem
from services.api.state import ApiState
from services.simulator.faults import Fault
from services.simulator.server import Simulator
from shared.domain.checks import Check, find_checks
from shared.domain.errors import StepDeferred, StepFailed
from shared.domain.profiles import StatedPreference
from shared.domain.taxonomy import default_taxonomy
from shared.llm.protocol import RetriesExhausted
from shared.metadata.repositories.profiles import ProfileRepository
from shared.personal.composer import compose, composer_version
from tests.services.api.support import assert_problem, client_of
from tests.services.simulator.support import plan_of, running

BRIEF = {"seed": "eighty words at most"}
LISTS = {"subdimension": "layout", "pole": "structured"}
OWN = {"description": "I am colour-blind, so never name colours alone"}
TEACHER = {"provider": "simulator", "model": "simulator-large"}


def body(*preferences: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"preferences": list(preferences or (BRIEF,)), **more}


@pytest.fixture
async def simulator(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Simulator]:
    simulator = Simulator()
    async with running(simulator) as url:
        monkeypatch.setenv("MULTIFACET_SIMULATOR_URL", url)
        yield simulator


async def made(client: httpx2.AsyncClient, name: str, *preferences: dict[str, str], **more: Any) -> dict[str, Any]:
    answer = await client.post("/v1/profiles", json=body(*preferences, name=name, **more))
    assert answer.status_code == 201, answer.text
    view: dict[str, Any] = answer.json()
    return view


async def test_a_profile_keeps_its_preferences_and_the_message_composed_of_them(client: httpx2.AsyncClient) -> None:
    view = await made(client, "Ada.1", BRIEF, LISTS, OWN, note="met in May")
    current = view["current"]
    assert (view["name"], view["version"], current["version"], current["note"]) == ("Ada.1", 1, 1, "met in May")
    stated = [StatedPreference(**one) for one in (BRIEF, LISTS, OWN)]
    assert current["system"] == compose(stated, default_taxonomy())
    assert [StatedPreference(**one) for one in current["preferences"]] == stated
    assert current["composed_by"]["version"] == composer_version()
    assert current["composed_by"]["taxonomy_version"] == default_taxonomy().version
    assert (await client.get("/v1/profiles/Ada.1")).json() == view


async def test_a_change_makes_a_version_and_leaves_the_earlier_ones(
    client: httpx2.AsyncClient, state: ApiState
) -> None:
    first = (await made(client, "bo"))["current"]
    second = (await client.put("/v1/profiles/bo", json=body(LISTS))).json()
    assert (second["version"], second["current"]["preferences"][0]["pole"]) == (2, "structured")
    versions = (await client.get("/v1/profiles/bo/versions")).json()["items"]
    assert [one["version"] for one in versions] == [2, 1]
    assert versions[1] == first == (await client.get("/v1/profiles/bo/versions/1")).json()
    page = (await client.get("/v1/profiles/bo/versions", params={"limit": 1})).json()
    rest = (await client.get("/v1/profiles/bo/versions", params={"before": page["next"]})).json()
    assert [one["version"] for one in rest["items"]] == [1]
    async with state.transaction() as session:
        assert (await ProfileRepository(session).current("default", "bo")).system == second["current"]["system"]
    assert_problem(await client.get("/v1/profiles/bo/versions/3"), 404)


async def test_changes_at_once_become_versions_of_their_own(client: httpx2.AsyncClient) -> None:
    await made(client, "cy")
    answers = await asyncio.gather(*(client.put("/v1/profiles/cy", json=body(note=str(n))) for n in range(6)))
    assert sorted(answer.json()["version"] for answer in answers) == [2, 3, 4, 5, 6, 7]


async def test_names_are_taken_once_and_free_again_after_deletion(client: httpx2.AsyncClient) -> None:
    old = await made(client, "dee")
    assert_problem(await client.post("/v1/profiles", json=body(name="dee")), 409)
    assert (await client.delete("/v1/profiles/dee")).status_code == 204
    for answer in (
        await client.get("/v1/profiles/dee"),
        await client.delete("/v1/profiles/dee"),
        await client.put("/v1/profiles/dee", json=body()),
        await client.get("/v1/profiles/dee/versions"),
    ):
        assert_problem(answer, 404)
    new = await made(client, "dee")
    assert new["id"] != old["id"]
    assert new["version"] == 1


async def test_profiles_are_listed_newest_first_with_a_cursor_and_not_those_of_others(
    client: httpx2.AsyncClient, app: Any, state: ApiState
) -> None:
    names = [f"list-{number}" for number in range(3)]
    for name in names:
        await made(client, name)
    first = (await client.get("/v1/profiles", params={"limit": 2})).json()
    assert [one["name"] for one in first["items"]] == names[:0:-1]
    rest = (await client.get("/v1/profiles", params={"before": first["next"], "limit": 200})).json()
    assert rest["items"][0]["name"] == names[0]
    from services.api.app import create_key

    key = await create_key(state.settings, "others", "k", ["read"])
    async with client_of(app, key) as other:
        assert (await other.get("/v1/profiles")).json()["items"] == []
        assert_problem(await other.get(f"/v1/profiles/{names[0]}"), 404)
        assert_problem(await other.post("/v1/profiles", json=body(name="x")), 403)


async def test_a_preview_shows_the_message_and_stores_nothing(client: httpx2.AsyncClient) -> None:
    before = (await client.get("/v1/profiles")).json()
    answer = (await client.post("/v1/profiles/preview", json=body(BRIEF))).json()
    assert find_checks(answer["system"]) == [Check("maximum_words", {"words": 80})]
    assert (await client.get("/v1/profiles")).json() == before


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        (body(BRIEF, {"seed": "eighty word at most"}, name="e"), "/preferences/1/seed"),
        (body(BRIEF, {"seed": "unhurried explanation"}, name="e"), "/preferences/1/seed"),
        ({"preferences": [], "name": "e"}, "/preferences"),
        (body(*({"description": f"wish {n}"} for n in range(13)), name="e"), "/preferences"),
        (body(name="e", taxonomy="taxonomy_none"), "/taxonomy"),
        (body(name="e", teacher={"provider": "nobody", "model": "m"}), "/teacher/provider"),
        (body(name="../e"), "/name"),
        (body({"pole": "brief"}, name="e"), "/preferences/0"),
    ],
)
async def test_what_cannot_be_a_profile_is_refused_where_it_stands(
    client: httpx2.AsyncClient, wanted: dict[str, Any], pointer: str
) -> None:
    assert_problem(await client.post("/v1/profiles", json=wanted), 422, pointers=[pointer])
    assert_problem(await client.get("/v1/profiles/e"), 404)


async def test_names_of_an_uploaded_taxonomy_are_those_of_its_profiles(client: httpx2.AsyncClient) -> None:
    small = default_taxonomy().model_dump(mode="json")
    small["name"] = "mine"
    small["dimensions"][0]["subdimensions"][0]["seeds"][0]["name"] = "just a few words"
    uploaded = (await client.post("/v1/taxonomies", json=small)).json()["id"]
    view = await made(client, "fay", {"seed": "just a few words"}, taxonomy=uploaded)
    assert view["current"]["taxonomy"] == uploaded
    assert_problem(
        await client.put("/v1/profiles/fay", json=body(BRIEF, taxonomy=uploaded)), 422, pointers=["/preferences/0/seed"]
    )


async def test_a_teacher_words_the_message_and_its_calls_are_counted_under_the_project(
    client: httpx2.AsyncClient, state: ApiState, simulator: Simulator
) -> None:
    view = await made(client, "gil", BRIEF, LISTS, OWN, teacher=TEACHER)
    current = view["current"]
    assert find_checks(current["system"]) == [Check("maximum_words", {"words": 80})]
    assert OWN["description"] in current["system"]
    assert current["composed_by"]["composer"] == "teacher"
    assert current["composed_by"]["model"] == "simulator-large"
    await state.models.flush()
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    by_job = (await client.get("/v1/usage", params={"by": "job"})).json()
    (live,) = [group for group in by_job["groups"] if group["key"] == f"live:{day}:default"]
    assert live["name"] == "calls without a job"
    assert live["calls"] == 1
    by_day = (await client.get("/v1/usage", params={"by": "day"})).json()
    assert day in {group["key"] for group in by_day["groups"]}
    assert sum(group["calls"] for group in by_day["groups"]) == by_day["total"]["calls"]


@pytest.mark.parametrize("fault", [Fault.REFUSAL_FIELD, Fault.EMPTY_ANSWER, Fault.UNAUTHORIZED])
async def test_a_teacher_that_fails_is_told_and_nothing_is_composed_in_its_place(
    client: httpx2.AsyncClient, simulator: Simulator, fault: Fault
) -> None:
    from services.simulator.faults import FaultInjector

    simulator.faults = FaultInjector(plan_of(shares={fault.value: 1.0}))
    wanted = body(BRIEF, name="hal", teacher=TEACHER, note=fault.value)
    assert_problem(await client.post("/v1/profiles", json=wanted), 502)
    assert_problem(await client.get("/v1/profiles/hal"), 404)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StepDeferred("closed", 12.4), 503, "model_unavailable"),
        (StepFailed("authentication_failed", "set OPENAI_API_KEY of the workers"), 502, "authentication_failed"),
        (RetriesExhausted("no answer"), 502, "retries_exhausted"),
    ],
)
async def test_errors_of_a_model_become_answers(error: Exception, status: int, code: str) -> None:
    with pytest.raises(Problem) as problem:
        async with answered_within(5, "the teacher"):
            raise error
    assert (problem.value.status, problem.value.code) == (status, code)
    assert "OPENAI_API_KEY" not in problem.value.detail
    assert problem.value.headers == ({"Retry-After": "12"} if status == 503 else {})


async def test_a_model_that_takes_too_long_is_given_up() -> None:
    with pytest.raises(Problem) as problem:
        async with answered_within(0.01, "the teacher"):
            await asyncio.sleep(30)
    assert problem.value.status == 504


def chosen_by(brief: bool, count: int = 40) -> list[dict[str, str]]:
    """Choices between a short and a long answer to different questions."""
    short, long = "It is fine as it is.", "It is fine as it is, and there is a good deal to add to that. " * 8
    return [
        {"prompt": f"question {n}", "chosen": short if brief else long, "rejected": long if brief else short}
        for n in range(count)
    ]


async def test_preferences_are_inferred_from_choices_and_can_become_a_profile(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/profiles/infer", json={"choices": chosen_by(brief=True)})
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert (report["prompts"], report["verdict"]["outcome"], report["judge"]) == (40, "supported", None)
    assert report["accuracy"]["estimate"] == 1.0
    assert report["always_longer"]["estimate"] == 0.0
    assert {one["pole"] for one in report["proposed"]} == {"brief"}
    await made(client, "ida", *(one["preference"] for one in report["proposed"]))


async def test_a_judge_is_asked_where_one_is_named(client: httpx2.AsyncClient, simulator: Simulator) -> None:
    wanted = {"choices": chosen_by(brief=False), "judge": TEACHER}
    report = (await client.post("/v1/profiles/infer", json=wanted)).json()
    assert report["judge"] == {
        "provider": "simulator",
        "model": "simulator-large",
        "read": 40,
        "unread": 0,
        "shortened": 0,
    }
    assert {one["pole"] for one in report["proposed"]} <= {"expansive", "in depth"}
    assert (
        report["looked_at"]
        > (await client.post("/v1/profiles/infer", json={"choices": chosen_by(False)})).json()["looked_at"]
    )


async def test_too_few_choices_get_a_verdict_and_not_an_error(client: httpx2.AsyncClient) -> None:
    report = (await client.post("/v1/profiles/infer", json={"choices": chosen_by(True, 5)})).json()
    assert (report["verdict"]["outcome"], report["proposed"], report["accuracy"]) == ("too_few", [], None)


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        ({"choices": []}, "/choices"),
        ({"choices": chosen_by(True, 2001)}, "/choices"),
        ({"choices": chosen_by(True, 401), "judge": TEACHER}, "/choices"),
        ({"choices": chosen_by(True), "judge": {"provider": "nobody", "model": "m"}}, "/judge/provider"),
        ({"choices": chosen_by(True), "held_out_share": 0.9}, "/held_out_share"),
        ({"choices": chosen_by(True), "taxonomy": "none"}, "/taxonomy"),
        ({"choices": [{"prompt": "p", "chosen": "x" * 40_001, "rejected": "y"}]}, "/choices/0/chosen"),
        ({"choices": [{"prompt": "p", "chosen": "x"}]}, "/choices/0/rejected"),
    ],
)
async def test_requests_of_inference_are_bounded(
    client: httpx2.AsyncClient, wanted: dict[str, Any], pointer: str
) -> None:
    assert_problem(await client.post("/v1/profiles/infer", json=wanted), 422, pointers=[pointer])
