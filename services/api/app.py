"""The api: REST, events and pages in one FastAPI application, made from settings."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.telemetry import TelemetryConfig

from services.api import problems
from services.api.authentication import Gate, check_settings
from services.api.benches import BenchReader
from services.api.datasets import DatasetReader
from services.api.events import EventHub
from services.api.gateway.gateway import Gateway
from services.api.gateway.openapi import describe
from services.api.live_models import live_models
from services.api.local_objects import LocalObjects
from services.api.pages import mount_pages
from services.api.problems import ProblemBody
from services.api.request_metrics import Observed
from services.api.routes import (
    annotations,
    artifacts,
    benches,
    cache,
    datasets,
    deployments,
    evaluations,
    files,
    health,
    jobs,
    keys,
    launchers,
    live,
    metrics,
    pools,
    profiles,
    providers,
    registry,
    taxonomies,
    usage,
)
from services.api.state import ApiState
from services.api.system_metrics import SystemMetrics
from shared.artifacts import open_store
from shared.domain.errors import InputRefused
from shared.llm.providers import Providers, load_providers
from shared.metadata.engine import create_engine, session_factory
from shared.metadata.repositories.api_keys import SCOPES, ApiKeyRepository
from shared.settings import Settings

DESCRIPTION = """
Multifacet turns real instructions into a multifaceted preference collection: preferences, system messages, gold responses, and
the training sets made of them.

Submit a **job** (`POST /v1/jobs`), follow its **events**, read its **artifacts** and page through its **data sets**. Times are
UTC, money is in millionths of a US dollar, and lists are paged by a cursor: pass `next` as `before`. Errors are RFC 9457 problems
with a stable `code` and JSON pointers. Unknown fields of a body are refused.

`POST /v1/chat/completions` and `GET /v1/models` are OpenAI's: any client of theirs works with this base URL and a key of this
server. There unknown fields are ignored, and errors have OpenAI's shape.
"""

_POOL_SIZE = 10

_NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
"""FastAPI's own would send queries, and errors with their text and trace, wherever its environment variables say."""


def create_app(settings: Settings) -> FastAPI:
    """The application. Raises LoopbackRefused for the mode without keys on an address that others can reach, and InputRefused
    for a providers file that cannot be used.

    Connections are made when it starts (ASGI lifespan) and closed when it stops.
    """
    check_settings(settings)
    configured = load_providers(settings.providers_file)
    app = FastAPI(
        title="Multifacet",
        version=_version(),
        description=DESCRIPTION,
        lifespan=_lifespan(settings, configured),
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
    )
    problems.install(app)
    live.mount(app)
    modules = (
        jobs,
        files,
        artifacts,
        datasets,
        registry,
        deployments,
        launchers,
        profiles,
        benches,
        evaluations,
        annotations,
        taxonomies,
        usage,
        pools,
        cache,
        providers,
        keys,
    )
    for module in (*modules, health, metrics):
        app.include_router(module.router)
    mount_pages(app)
    app.add_middleware(Gate, settings=settings, state=lambda: app.state.api)
    app.add_middleware(Observed)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _schema(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def _lifespan(settings: Settings, configured: Providers) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        patience = settings.database_patience_seconds
        engine = create_engine(settings.database_url, _POOL_SIZE, "multifacet-api", patience)
        store = open_store(settings)
        objects = LocalObjects(store, settings.work_folder)
        events = EventHub(settings.database_url, patience)
        sessions = session_factory(engine)
        state = ApiState(
            settings=settings,
            engine=engine,
            sessions=sessions,
            store=store,
            providers=configured,
            events=events,
            objects=objects,
            datasets=DatasetReader(objects),
            benches=BenchReader(objects),
            models=live_models(settings, configured),
            system_metrics=SystemMetrics(sessions, settings.launcher_lease_seconds),
            gateway=Gateway(settings, configured, sessions),
        )
        app.state.api = state
        await events.start()
        await state.gateway.start()
        await state.models.start()
        try:
            yield
        finally:
            await events.close()
            await state.gateway.close()
            await state.models.close()
            state.datasets.close()
            await objects.close()
            await engine.dispose()

    return lifespan


async def bootstrap(settings: Settings) -> None:
    """Make sure of the operator's first key, where the settings name one. Raises InputRefused for a weak one."""
    secret = settings.bootstrap_key.get_secret_value().strip()
    if settings.bootstrap_key_file is not None:
        secret = _key_of_file(settings.bootstrap_key_file)
    if secret:
        await create_key(settings, "default", "bootstrap", SCOPES, secret=secret)


async def create_key(
    settings: Settings, project_id: str, name: str, scopes: Sequence[str], *, secret: str | None = None
) -> str:
    """Make a key on a connection of its own; returns it. Raises InputRefused for an unknown scope or a weak `secret`."""
    engine = create_engine(settings.database_url, pool_size=1)
    try:
        async with session_factory(engine)() as session, session.begin():
            _, made = await ApiKeyRepository(session).create(project_id, name, scopes, secret=secret)
    finally:
        await engine.dispose()
    return made


def _key_of_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputRefused(
            f"MULTIFACET_BOOTSTRAP_KEY_FILE={path} cannot be read ({error}); set a text file that holds the key, or unset it"
        ) from error


def _schema(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI schema, with problems in place of FastAPI's own error shapes."""
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = schema.setdefault("components", {}).setdefault("schemas", {})
    problem = ProblemBody.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
    components.update(problem.pop("$defs", {}))
    components["ProblemBody"] = problem
    describe(schema)
    components.pop("HTTPValidationError", None)
    components.pop("ValidationError", None)
    for operations in schema["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                content = response.get("content", {})
                if status == "422" and "application/json" in content:
                    response["content"] = {
                        problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}
                    }
    return schema


def _version() -> str:
    try:
        return version("multifacet")
    except PackageNotFoundError:
        return "0"
