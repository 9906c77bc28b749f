"""Pages about profiles: the list, one profile with its versions, and the form that makes and changes them."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from services.api.pages.rendering import Viewer, render
from services.api.pages.try_it import taxonomy_choices, try_link
from services.api.state import State
from services.api.submission import DEFAULT_TAXONOMY_ID, find_taxonomy
from shared.domain.taxonomy import Taxonomy, default_taxonomy
from shared.metadata.repositories.profiles import ProfileRepository
from shared.metadata.tables import Profile, ProfileVersion

router = APIRouter()

_PAGE_PROFILES = 50
_SHOWN_VERSIONS = 50


@router.get("/profiles")
async def profiles_page(
    request: Request, caller: Viewer, state: State, before: Annotated[str | None, Query(max_length=100)] = None
) -> Response:
    """Profiles, newest first."""
    async with state.transaction() as session:
        repository = ProfileRepository(session)
        found = await repository.list(caller.project_id, before=before, limit=_PAGE_PROFILES + 1)
        shown = found[:_PAGE_PROFILES]
        current = await repository.current_of(shown)
    return render(
        request,
        "profiles.html",
        profiles=[
            {"profile": profile, "version": current[profile.id], "try_link": _try_link(profile)} for profile in shown
        ],
        next=shown[-1].id if len(found) > _PAGE_PROFILES else None,
        before=before,
        may_chat=caller.may("chat"),
        may_write=caller.may("write"),
    )


@router.get("/new-profile")
async def new_profile_page(request: Request, caller: Viewer) -> Response:
    # Not below /profiles, where a profile may be called `new`.
    return _form(request, caller.may("write"), default_taxonomy())


@router.get("/profiles/{name}")
async def profile_page(request: Request, name: str, caller: Viewer, state: State) -> Response:
    """One profile: the version that counts, and those before."""
    async with state.transaction() as session:
        repository = ProfileRepository(session)
        profile = await repository.require(caller.project_id, name)
        versions = await repository.versions(profile, limit=_SHOWN_VERSIONS)
    return render(
        request,
        "profile.html",
        profile=profile,
        current=versions[0],
        earlier=versions[1:],
        composer=_composer,
        try_link=_try_link(profile),
        may_chat=caller.may("chat"),
        may_write=caller.may("write"),
    )


@router.get("/profiles/{name}/edit")
async def edit_profile_page(request: Request, name: str, caller: Viewer, state: State) -> Response:
    async with state.transaction() as session:
        repository = ProfileRepository(session)
        profile = await repository.require(caller.project_id, name)
        version = await repository.version(profile, profile.version)
    taxonomy = await find_taxonomy(state, caller.project_id, version.taxonomy)
    return _form(request, caller.may("write"), taxonomy, profile, version)


def _form(
    request: Request,
    may_write: bool,
    taxonomy: Taxonomy,
    profile: Profile | None = None,
    version: ProfileVersion | None = None,
) -> Response:
    return render(
        request,
        "profile_form.html",
        profile=profile,
        preferences=[] if version is None else version.preferences,
        taxonomy_id=DEFAULT_TAXONOMY_ID if version is None else version.taxonomy,
        taxonomy=taxonomy_choices(taxonomy),
        by_teacher=version is not None and version.composed_by.get("composer") == "teacher",
        may_write=may_write,
    )


def _composer(version: ProfileVersion) -> str:
    """Who composed the message, in words."""
    by = version.composed_by
    if by.get("composer") == "teacher":
        return f"{by['provider']}/{by['model']}"
    return "rule"


def _try_link(profile: Profile) -> str:
    """The profile beside nobody, by the same model."""
    return try_link({"person": f"profile:{profile.name}"}, {"person": "nobody"})
