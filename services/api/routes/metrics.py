"""`GET /metrics`: the system's figures and this api's requests, in Prometheus' text format."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from services.api.authentication import METRICS_PATH, bears
from services.api.problems import Problem
from services.api.request_metrics import process_registry
from services.api.state import State

router = APIRouter(include_in_schema=False)


@router.get(METRICS_PATH)
async def metrics(request: Request, state: State) -> Response:
    """For a Prometheus server, which sends MULTIFACET_METRICS_TOKEN. Loopback mode asks for no token, as it asks for no key."""
    if state.settings.authentication != "loopback":
        _require_token(request, state.settings.metrics_token.get_secret_value().strip())
    system = CollectorRegistry()
    system.register(await state.system_metrics.collector())
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    texts = [encode(registry) for registry in (system, process_registry())]
    # OpenMetrics ends with a line of its own, which stands once.
    end = b"# EOF\n"
    body = b"".join(text.removesuffix(end) for text in texts)
    return Response(body + (end if texts[0].endswith(end) else b""), media_type=media_type)


def _require_token(request: Request, token: str) -> None:
    if not token:
        raise Problem(
            403,
            "metrics_refused",
            "nobody may read metrics here: set MULTIFACET_METRICS_TOKEN for the api and Prometheus",
        )
    if not bears(request, token):
        raise Problem(
            401,
            "unauthorized",
            "send MULTIFACET_METRICS_TOKEN of the api as `Authorization: Bearer …`",
            headers={"WWW-Authenticate": 'Bearer realm="multifacet metrics"'},
        )
