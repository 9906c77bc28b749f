"""The page of workers: what waits in each pool, what the autoscaler wants and has, who works."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from services.api.pages.rendering import Viewer, render
from services.api.routes.pools import read_pools
from services.api.state import ApiState, State

router = APIRouter()


@router.get("/pools")
async def pools_page(request: Request, caller: Viewer, state: State) -> Response:
    return render(request, "pools.html", **await _values(state, caller))


@router.get("/pools/live")
async def pools_live(request: Request, caller: Viewer, state: State) -> Response:
    """The live part of the page."""
    return render(request, "_pools.html", **await _values(state, caller))


async def _values(state: ApiState, caller: Any) -> dict[str, Any]:
    return {"shown": await read_pools(caller, state)}
