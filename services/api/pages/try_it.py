"""The page where people try what is deployed: one instruction, answered side by side."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import Response

from services.api.pages.rendering import Chatter, render
from services.api.state import State
from shared.domain.deployments import ServingModel
from shared.domain.taxonomy import Taxonomy, default_taxonomy
from shared.metadata.repositories.profiles import ProfileRepository
from shared.metadata.repositories.serving import ServingRepository

router = APIRouter()

_MOST_COLUMNS = 4
_PROFILES = 500
_USUAL_TOKENS = 512


@router.get("/try")
async def try_page(request: Request, caller: Chatter, state: State) -> Response:
    async with state.transaction() as session:
        serving = await ServingRepository(session).serving(caller.project_id)
        profiles = await ProfileRepository(session).list(caller.project_id, limit=_PROFILES)
    models = [model for model in serving if not model.is_reward_model]
    return render(
        request,
        "try.html",
        models=models,
        profiles=sorted(profile.name for profile in profiles),
        taxonomy=taxonomy_choices(default_taxonomy()),
        tokens=_tokens(models),
        most_columns=_MOST_COLUMNS,
        may_read=caller.may("read"),
        may_write=caller.may("write"),
    )


def try_link(*columns: Mapping[str, str]) -> str:
    """The address of the page with these columns filled in (`model`, `person`, as `static/try.js` writes them)."""
    return "/try#" + quote(json.dumps({"columns": columns}, ensure_ascii=False), safe="")


def taxonomy_choices(taxonomy: Taxonomy) -> dict[str, Any]:
    """What the chooser of preferences (`static/facets.js`) shows of a taxonomy."""
    return taxonomy.model_dump(
        mode="json",
        include={
            "dimensions": {
                "__all__": {
                    "name": True,
                    "subdimensions": {
                        "__all__": {
                            "name": True,
                            "description": True,
                            "poles": {"__all__": {"name", "description"}},
                            "seeds": {"__all__": {"name", "pole", "description"}},
                        }
                    },
                }
            }
        },
    )


def _tokens(models: Sequence[ServingModel]) -> int:
    """A length of answers that every model takes, with room for the question."""
    limits = [model.maximum_total_tokens for model in models if model.maximum_total_tokens is not None]
    return max(1, min([_USUAL_TOKENS, *(limit // 2 for limit in limits)]))
