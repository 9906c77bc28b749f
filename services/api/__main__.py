"""`python -m services.api`: serve; `python -m services.api create-key --project default --scopes admin`: a first key."""

import argparse
import asyncio
import logging
import sys
from contextlib import nullcontext

import uvicorn
from fastapi import FastAPI

from services.api.app import bootstrap, create_app, create_key
from services.api.request_metrics import counted_together
from shared.metadata.engine import parse_url
from shared.settings import Settings, get_settings
from shared.settings.start_up import ended_in_words, starting
from shared.stages.small_process import settle_after_imports
from shared.telemetry.logs import configure_logging
from shared.telemetry.tracing import configure_tracing

SHUTDOWN_SECONDS = 10

_WORKER_CHECK_SECONDS = 60
"""A process of several that says nothing for so long is started anew. A machine under load is no reason."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m services.api", description="The Multifacet api.")
    commands = parser.add_subparsers(dest="command")
    create = commands.add_parser("create-key", help="make an API key and print it, once")
    create.add_argument("--project", default="default")
    create.add_argument("--name", default="command line")
    create.add_argument("--scopes", default="admin", help="comma-separated: chat, read, write, admin")
    arguments = parser.parse_args()
    with ended_in_words():
        with starting():
            settings = get_settings()
            if arguments.command == "create-key":
                scopes = [scope.strip() for scope in arguments.scopes.split(",") if scope.strip()]
                key = asyncio.run(create_key(settings, arguments.project, arguments.name, scopes))
                sys.stdout.write(key + "\n")
                return
            app = prepare(settings)
        serve(settings, app)


def prepare(settings: Settings) -> FastAPI:
    """The application, with everything done that needs an operator where it fails."""
    configure_logging(settings, "api")
    configure_tracing(settings, "api")
    parse_url(settings.database_url)
    app = create_app(settings)
    asyncio.run(bootstrap(settings))
    return app


def served() -> FastAPI:
    """The application of one of several processes: each imports this module anew, and the first has made sure of everything."""
    settings = get_settings()
    configure_logging(settings, "api")
    configure_tracing(settings, "api")
    app = create_app(settings)
    _settle()
    return app


def serve(settings: Settings, app: FastAPI) -> None:
    """Run until SIGTERM or SIGINT: in this process, or in `api_workers` children of it that share the port."""
    several = settings.api_workers > 1
    _settle()
    with counted_together() if several else nullcontext():
        uvicorn.run(
            "services.api.__main__:served" if several else app,
            factory=several,
            workers=settings.api_workers,
            host=settings.api_host,
            port=settings.api_port,
            loop="uvloop",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            timeout_worker_healthcheck=_WORKER_CHECK_SECONDS,
            server_header=False,
        )


def _settle() -> None:
    # sse-starlette logs every chunk when debugging; events are for those who may read the job.
    logging.getLogger("sse_starlette").setLevel(logging.WARNING)
    # A full search for garbage through all that was imported stops every stream for a quarter of a second.
    settle_after_imports()


if __name__ == "__main__":
    main()
