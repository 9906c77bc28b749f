"""Which models a job may name."""

from fastapi import APIRouter

from services.api.authentication import Reader
from services.api.routes.common import problems
from services.api.schemas import Listing, ModelView, ProviderView
from services.api.state import State

router = APIRouter(prefix="/v1/providers", tags=["providers"])


@router.get("", operation_id="list_providers", responses=problems())
async def list_providers(_: Reader, state: State) -> Listing[ProviderView]:
    """Providers and models that the operator configured. Addresses and keys are not told."""
    items = []
    for name, provider in sorted(state.providers.providers.items()):
        models = [
            ModelView(
                name=model,
                priced=prices is not None and prices.prompt_price is not None and prices.completion_price is not None,
            )
            for model, prices in provider.models.items()
        ]
        items.append(ProviderView(name=name, simulator=provider.simulator, models=models))
    return Listing(items=items)
