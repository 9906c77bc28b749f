"""A deployment as the language models of a worker call it: cached, paced and counted like a provider's model, at no price."""

from shared.domain.deployments import ServingModel
from shared.domain.jobs import ModelChoice
from shared.llm.providers import ModelPrices, Provider, Providers, RepetitionPenalty, ResolvedModel
from shared.llm.servers.addresses import address_of
from shared.llm.servers.protocol import ServerKind

DEPLOYMENT_PROVIDER = "deployment"
"""Stands as the provider in provenance, usage and cache keys of what a server of ours answered."""

_TGI_BASE_MODEL = "tgi"
"""TGI's chat route takes any other name for that of an adapter (router/src/lib.rs, ChatRequest::try_into_generate)."""


def resolved_deployment(serving: ServingModel, providers: Providers) -> ResolvedModel:
    """The deployment, ready to be called. One of a provider's model is that model, whose answers it shares.

    Raises InputRefused for a provider or model that is not configured (any more).
    """
    target = serving.target
    if target.provider is not None and target.model is not None:
        return providers.require(ModelChoice(provider=target.provider, model=target.model), "/target")
    address = address_of(serving, providers)
    is_tgi = address.kind is ServerKind.TGI
    base_url = address.base_url if address.kind is ServerKind.OPENAI else f"{address.base_url}/v1"
    penalty: RepetitionPenalty = "tgi" if is_tgi else "repetition_penalty"
    return ResolvedModel(
        provider_name=DEPLOYMENT_PROVIDER,
        provider=Provider(
            base_url=base_url,
            repetition_penalty=penalty,
            models={serving.answered_by: ModelPrices(prompt_price=0, completion_price=0)},
        ),
        model=serving.answered_by,
        prompt_price=0.0,
        completion_price=0.0,
        deployment=serving.deployment_id,
        server_kind=address.kind.value,
        sent_model=_TGI_BASE_MODEL if is_tgi and not address.is_adapter else address.model,
    )
