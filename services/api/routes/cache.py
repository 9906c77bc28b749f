"""Stored answers of models: they make a repeated call free, and are removed on request."""

from fastapi import APIRouter

from services.api.authentication import Administrator
from services.api.routes.common import problems
from services.api.schemas import PurgeReport
from services.api.state import State
from shared.llm.cache import purge_project

router = APIRouter(prefix="/v1/cache", tags=["cache"])


@router.delete("", operation_id="purge_cache", responses=problems())
async def purge_cache(caller: Administrator, state: State) -> PurgeReport:
    """Remove all stored answers of the project. What jobs made stays; calls made from now on are paid again."""
    return PurgeReport(removed=await purge_project(state.settings.database_url, caller.project_id))
