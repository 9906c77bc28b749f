"""`/info`, `/v1/models`, `/metrics`: what is served, and how it goes."""

from importlib.metadata import version

from starlette.responses import Response

from services.inference.cpu_server.http.json_bodies import json_response
from services.inference.cpu_server.http.metrics import CONTENT_TYPE
from services.inference.cpu_server.http.replies import Info, ModelInfo, ModelsInfo
from services.inference.cpu_server.http.sequences import Service


def info(service: Service) -> Response:
    facts, limits = service.engine.facts, service.limits
    return json_response(
        Info(
            model_id=service.name,
            model_sha=None,
            model_pipeline_tag="text-classification" if facts.is_reward_model else "text-generation",
            max_concurrent_requests=limits.max_concurrent_requests,
            max_best_of=limits.max_best_of,
            max_stop_sequences=limits.max_stop_sequences,
            max_input_tokens=limits.max_input_tokens,
            max_total_tokens=limits.max_total_tokens,
            validation_workers=1,
            max_client_batch_size=limits.max_client_batch_size,
            router="multifacet-cpu-server",
            version=version("multifacet"),
            sha=None,
            docker_label=None,
            model_dtype=facts.dtype,
            model_device_type=facts.device,
            is_reward_model=facts.is_reward_model,
            slots=facts.slots,
            adapters=list(facts.adapters),
        )
    )


def models(service: Service) -> Response:
    """The model, then its adapters."""
    names = (service.name, *service.engine.facts.adapters)
    return json_response(ModelsInfo("list", [ModelInfo(name, "model", 0, service.name) for name in names]))


def metrics(service: Service) -> Response:
    return Response(service.metrics.text(service.engine.counters), media_type=CONTENT_TYPE)
