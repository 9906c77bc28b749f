"""Profiles: what a person prefers, in versions, and the system message that each became."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from services.api.authentication import Caller, Reader, Writer
from services.api.live_models import CALL_SECONDS, answered_within
from services.api.profile_views import (
    ComposedBy,
    ComposeRequest,
    InferRequest,
    PreviewView,
    ProfileChange,
    ProfileRequest,
    ProfileSummary,
    ProfileVersionView,
    ProfileView,
)
from services.api.routes.common import listing, problems
from services.api.schemas import Before, Limit, Listing
from services.api.state import ApiState, State
from services.api.submission import find_taxonomy, refuse_unstorable
from shared.metadata.repositories.profiles import ProfileContent, ProfileRepository
from shared.personal.composer import compose, composer_version
from shared.personal.inference.columns import Column, program_columns
from shared.personal.inference.inferring import infer
from shared.personal.inference.judging import judge_columns, require_readable
from shared.personal.inference.report import InferenceReport
from shared.personal.teacher import ATTEMPTS, PROMPT, compose_with_teacher

router = APIRouter(prefix="/v1/profiles", tags=["profiles"])

TEACHER_SECONDS = 2 * ATTEMPTS * CALL_SECONDS
"""Each try may be repaired once."""
JUDGE_SECONDS = 300.0

Name = Annotated[str, Path(max_length=100, description="the profile's name")]


@router.post("", status_code=201, operation_id="create_profile", responses=problems(409, 413, 415, 502, 503, 504))
async def create_profile(wanted: ProfileRequest, response: Response, caller: Writer, state: State) -> ProfileView:
    """Make a profile. Requests name it as `profile`; its system message is made now, and kept with it."""
    content = await _content(wanted, caller, state)
    async with state.transaction() as session:
        profile, version = await ProfileRepository(session).create(caller.project_id, wanted.name, content)
        view = ProfileView.of(profile, version)
    response.headers["Location"] = f"/v1/profiles/{wanted.name}"
    return view


@router.put("/{name}", operation_id="change_profile", responses=problems(404, 413, 415, 502, 503, 504))
async def change_profile(name: Name, wanted: ProfileChange, caller: Writer, state: State) -> ProfileView:
    """Give a profile its next version, which counts from now on. Earlier versions stay as they are."""
    async with state.transaction() as session:
        await ProfileRepository(session).require(caller.project_id, name)
    content = await _content(wanted, caller, state)
    async with state.transaction() as session:
        profile, version = await ProfileRepository(session).change(caller.project_id, name, content)
        return ProfileView.of(profile, version)


@router.get("", operation_id="list_profiles", responses=problems())
async def list_profiles(
    caller: Reader, state: State, limit: Limit = 50, before: Before = None
) -> Listing[ProfileSummary]:
    """The project's profiles, newest first."""
    async with state.transaction() as session:
        found = await ProfileRepository(session).list(caller.project_id, before=before, limit=limit + 1)
    return listing(found, limit, ProfileSummary.summary_of, lambda profile: profile.id)


@router.post("/preview", operation_id="preview_profile", responses=problems(413, 415, 502, 503, 504))
async def preview_profile(wanted: ComposeRequest, caller: Writer, state: State) -> PreviewView:
    """The system message that preferences would become. Nothing is stored."""
    content = await _content(ProfileChange.model_validate(wanted.model_dump()), caller, state)
    return PreviewView(system=content.system, composed_by=ComposedBy.model_validate(content.composed_by))


@router.post("/infer", operation_id="infer_preferences", responses=problems(413, 415, 502, 503, 504))
async def infer_preferences(wanted: InferRequest, caller: Writer, state: State) -> InferenceReport:
    """Propose preferences that would explain a person's choices, with the share of held-out choices that they predict.

    Where the choices are too few, or are predicted no better than by chance or by length, nothing is proposed and the
    verdict says so. Nothing is stored: make a profile of what you agree with.
    """
    taxonomy = await find_taxonomy(state, caller.project_id, wanted.taxonomy)
    judged: list[Column] = []
    reading = None
    if wanted.judge is not None:
        require_readable(wanted.choices)
        choice = wanted.judge
        async with answered_within(JUDGE_SECONDS, f"the judge {choice.provider}/{choice.model}"):
            judge = state.models.bind_live(choice, project_id=caller.project_id, purpose="infer", pointer="/judge")
            judged, reading = await judge_columns(wanted.choices, taxonomy, judge, seed=wanted.seed)

    def worked_out() -> InferenceReport:
        return infer(
            wanted.choices,
            [*program_columns(wanted.choices, taxonomy), *judged],
            held_out_share=wanted.held_out_share,
            seed=wanted.seed,
            judge=reading,
        )

    # One at a time: others wait here, and the loop and its threads stay free for short requests.
    async with state.inferring:
        return await asyncio.to_thread(worked_out)


@router.get("/{name}", operation_id="get_profile", responses=problems(404))
async def get_profile(name: Name, caller: Reader, state: State) -> ProfileView:
    """A profile with the version that counts."""
    async with state.transaction() as session:
        repository = ProfileRepository(session)
        profile = await repository.require(caller.project_id, name)
        return ProfileView.of(profile, await repository.version(profile, profile.version))


@router.get("/{name}/versions", operation_id="list_profile_versions", responses=problems(404))
async def list_profile_versions(
    name: Name,
    caller: Reader,
    state: State,
    limit: Limit = 50,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="`next` of the page before")] = None,
) -> Listing[ProfileVersionView]:
    """All versions of a profile, newest first."""
    async with state.transaction() as session:
        repository = ProfileRepository(session)
        profile = await repository.require(caller.project_id, name)
        found = await repository.versions(profile, before=before, limit=limit + 1)
    return listing(found, limit, ProfileVersionView.of, lambda version: str(version.version))


@router.get("/{name}/versions/{version}", operation_id="get_profile_version", responses=problems(404))
async def get_profile_version(
    name: Name, version: Annotated[int, Path(ge=1, le=2**31 - 1)], caller: Reader, state: State
) -> ProfileVersionView:
    """One version of a profile."""
    async with state.transaction() as session:
        repository = ProfileRepository(session)
        profile = await repository.require(caller.project_id, name)
        return ProfileVersionView.of(await repository.version(profile, version))


@router.delete("/{name}", status_code=204, operation_id="delete_profile", responses=problems(404))
async def delete_profile(name: Name, caller: Writer, state: State) -> Response:
    """Take a profile out of use; its name is free again."""
    async with state.transaction() as session:
        await ProfileRepository(session).delete(caller.project_id, name)
    return Response(status_code=204)


async def _content(wanted: ProfileChange, caller: Caller, state: ApiState) -> ProfileContent:
    """The version that a request asks for, its message composed. No transaction is open while a teacher writes."""
    refuse_unstorable(wanted)
    taxonomy = await find_taxonomy(state, caller.project_id, wanted.taxonomy)
    if wanted.teacher is None:
        system = await asyncio.to_thread(compose, wanted.preferences, taxonomy)
        composed_by = {"composer": "deterministic", "version": composer_version()}
    else:
        choice = wanted.teacher
        async with answered_within(TEACHER_SECONDS, f"the teacher {choice.provider}/{choice.model}"):
            teacher = state.models.bind_live(
                choice, project_id=caller.project_id, purpose="profile", pointer="/teacher"
            )
            system = await compose_with_teacher(wanted.preferences, taxonomy, teacher)
        composed_by = {
            "composer": "teacher",
            "provider": choice.provider,
            "model": choice.model,
            "prompt_version": PROMPT.version,
        }
    return ProfileContent(
        preferences=wanted.preferences,
        system=system,
        composed_by=composed_by | {"taxonomy_version": taxonomy.version},
        taxonomy=wanted.taxonomy,
        note=wanted.note,
    )
