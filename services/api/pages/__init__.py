"""The web interface: server-rendered pages over the same data as the REST API. `mount_pages` adds them to the app."""

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from services.api.pages.annotations import router as annotations_router
from services.api.pages.benches import router as benches_router
from services.api.pages.deployments import router as deployments_router
from services.api.pages.evaluations import router as evaluations_router
from services.api.pages.explorer import router as explorer_router
from services.api.pages.jobs import router as jobs_router
from services.api.pages.models import router as models_router
from services.api.pages.new_job import router as new_job_router
from services.api.pages.pools import router as pools_router
from services.api.pages.profiles import router as profiles_router
from services.api.pages.rendering import LoginNeeded, home_of
from services.api.pages.session import router as session_router
from services.api.pages.try_it import router as try_router

STATIC_FOLDER = Path(__file__).parent.parent / "static"


def mount_pages(app: FastAPI) -> None:
    """Add the pages and their static files."""
    app.mount("/static", StaticFiles(directory=STATIC_FOLDER), name="static")
    for router in (
        session_router,
        new_job_router,
        jobs_router,
        explorer_router,
        models_router,
        deployments_router,
        profiles_router,
        benches_router,
        evaluations_router,
        annotations_router,
        pools_router,
        try_router,
    ):
        app.include_router(router, include_in_schema=False)
    app.add_exception_handler(LoginNeeded, _to_login)


async def _to_login(request: Request, _: Exception) -> Response:
    """To the login; whoever is logged in, and may not see the page, to where they may be."""
    return RedirectResponse(home_of(getattr(request.state, "caller", None)), 303)
