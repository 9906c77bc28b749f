"""API keys of a project, and the browser session that a key is traded for."""

from fastapi import APIRouter, Request, Response

from services.api.authentication import (
    SESSION_COOKIE,
    Administrator,
    clear_session_cookie,
    end_session,
    set_session_cookie,
    start_session,
)
from services.api.problems import not_found
from services.api.routes.common import problems
from services.api.schemas import KeyRequest, KeyView, Listing, NewKey, SessionRequest
from services.api.state import State
from shared.metadata.repositories.api_keys import ApiKeyRepository

router = APIRouter(tags=["keys"])


@router.post("/v1/keys", status_code=201, operation_id="create_key", responses=problems(413, 415))
async def create_key(wanted: KeyRequest, response: Response, caller: Administrator, state: State) -> NewKey:
    """Make a key for this project. The key itself is shown in this answer only; the server keeps its sha256."""
    async with state.transaction() as session:
        row, secret = await ApiKeyRepository(session).create(
            caller.project_id, wanted.name, wanted.scopes, limits=wanted.limits()
        )
    response.headers["Cache-Control"] = "no-store"
    response.headers["Location"] = f"/v1/keys/{row.id}"
    return NewKey(**KeyView.of(row).model_dump(), key=secret)


@router.get("/v1/keys", operation_id="list_keys", responses=problems())
async def list_keys(caller: Administrator, state: State) -> Listing[KeyView]:
    """The project's keys, newest first, revoked ones included."""
    async with state.transaction() as session:
        keys = await ApiKeyRepository(session).list(caller.project_id)
    return Listing(items=[KeyView.of(key) for key in keys])


@router.delete("/v1/keys/{key_id}", operation_id="revoke_key", responses=problems(404))
async def revoke_key(key_id: str, caller: Administrator, state: State) -> KeyView:
    """Revoke a key at once, with every browser session that was traded for it. The record stays.

    Live requests end within five seconds where several api processes run: each remembers keys for so long.
    """
    async with state.transaction() as session:
        key = await ApiKeyRepository(session).revoke(caller.project_id, key_id)
    if key is None:
        raise not_found("key", key_id)
    state.gateway.keys.forget(key_id)
    return KeyView.of(key)


@router.post("/v1/session", status_code=204, operation_id="log_in", responses=problems(413, 415))
async def log_in(wanted: SessionRequest, request: Request, state: State) -> Response:
    """Trade an API key for a cookie (HttpOnly, SameSite=Strict, 12 hours) with the rights of the key."""
    secret = await start_session(state, wanted.key)
    response = Response(status_code=204)
    set_session_cookie(response, secret, secure=request.url.scheme == "https")
    return response


@router.delete("/v1/session", status_code=204, operation_id="log_out", responses=problems())
async def log_out(request: Request, state: State) -> Response:
    """End the browser session; no error where there is none."""
    secret = request.cookies.get(SESSION_COOKIE)
    if secret:
        await end_session(state, secret)
    response = Response(status_code=204)
    clear_session_cookie(response)
    return response
