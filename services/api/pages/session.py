"""Log in with an API key, log out."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from services.api.authentication import (
    SESSION_COOKIE,
    clear_session_cookie,
    end_session,
    set_session_cookie,
    start_session,
)
from services.api.pages.rendering import home_of, render
from services.api.problems import Problem
from services.api.state import State

router = APIRouter()


@router.get("/")
async def root(request: Request) -> Response:
    return RedirectResponse(home_of(getattr(request.state, "caller", None)), 303)


@router.get("/login")
async def login_page(request: Request) -> Response:
    return render(request, "login.html", error=None)


@router.post("/login")
async def login(request: Request, state: State, key: Annotated[str, Form(max_length=200)]) -> Response:
    """Trade a key for a session cookie; the key itself is not kept by the browser."""
    try:
        secret = await start_session(state, key.strip())
    except Problem as problem:
        if problem.status != 401:
            raise
        return render(request, "login.html", 401, error="This key is unknown, expired or revoked.")
    response = RedirectResponse("/", 303)
    set_session_cookie(response, secret, secure=request.url.scheme == "https")
    return response


@router.post("/logout")
async def logout(request: Request, state: State) -> Response:
    secret = request.cookies.get(SESSION_COOKIE)
    if secret:
        await end_session(state, secret)
    response = RedirectResponse("/login", 303)
    clear_session_cookie(response)
    return response
