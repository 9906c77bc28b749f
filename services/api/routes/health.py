"""Health: for orchestrators, without a key."""

import asyncio

import sqlalchemy as sa
from fastapi import APIRouter, Response
from sqlalchemy.exc import SQLAlchemyError

from services.api.schemas import Health
from services.api.state import State
from shared.domain.errors import MultifacetError

router = APIRouter(prefix="/health", tags=["health"])

_TIMEOUT_SECONDS = 3.0


@router.get("/live", operation_id="health_live")
async def live() -> Health:
    """The process answers."""
    return Health(status="ok")


@router.get(
    "/ready",
    operation_id="health_ready",
    responses={503: {"model": Health, "description": "The database or the artifact store does not answer."}},
)
async def ready(response: Response, state: State) -> Health:
    """The database answers and the artifact store can be written and read."""
    database, store = await asyncio.gather(_database(state), _store(state))
    checks = {"database": database, "store": store}
    healthy = set(checks.values()) == {"ok"}
    if not healthy:
        response.status_code = 503
    return Health(status="ok" if healthy else "failing", checks=checks)


async def _database(state: State) -> str:
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS), state.transaction() as session:
            await session.execute(sa.text("SELECT 1 FROM job LIMIT 1"))
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        return f"failing ({type(error).__name__})"
    return "ok"


async def _store(state: State) -> str:
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            await state.store.check()
    except (MultifacetError, OSError, TimeoutError) as error:
        return f"failing ({type(error).__name__})"
    return "ok"
