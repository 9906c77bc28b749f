"""`python -m services.api`: serve; `python -m services.api create-key --project default --scopes admin`: a first key."""

import argparse
import asyncio
import logging
import sys

import uvicorn

from services.api.app import create_app
from shared.domain.errors import MultifacetError
from shared.metadata.engine import create_engine, session_factory
from shared.metadata.repositories.api_keys import ApiKeyRepository
from shared.settings import Settings, get_settings
from shared.telemetry.logs import configure_logging

SHUTDOWN_SECONDS = 10


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m services.api", description="The Multifacet api.")
    commands = parser.add_subparsers(dest="command")
    create = commands.add_parser("create-key", help="make an API key and print it, once")
    create.add_argument("--project", default="default")
    create.add_argument("--name", default="command line")
    create.add_argument("--scopes", default="admin", help="comma-separated: read, write, admin")
    arguments = parser.parse_args()
    settings = get_settings()
    try:
        if arguments.command == "create-key":
            scopes = [scope.strip() for scope in arguments.scopes.split(",") if scope.strip()]
            sys.stdout.write(asyncio.run(create_key(settings, arguments.project, arguments.name, scopes)) + "\n")
            return
        serve(settings)
    except MultifacetError as error:
        sys.exit(f"{error.code}: {error}")


async def create_key(settings: Settings, project_id: str, name: str, scopes: list[str]) -> str:
    """Make a key; returns it. Raises InputRefused for an unknown scope."""
    engine = create_engine(settings.database_url, pool_size=1)
    try:
        async with session_factory(engine)() as session, session.begin():
            _, secret = await ApiKeyRepository(session).create(project_id, name, scopes)
    finally:
        await engine.dispose()
    return secret


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    configure_logging(settings, "api")
    # sse-starlette logs every chunk when debugging; events are for those who may read the job.
    logging.getLogger("sse_starlette").setLevel(logging.WARNING)
    uvicorn.run(
        create_app(settings),
        host=settings.api_host,
        port=settings.api_port,
        loop="uvloop",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        server_header=False,
    )


if __name__ == "__main__":
    main()
