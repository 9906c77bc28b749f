"""`python -m services.autoscaler`: start worker containers where steps wait, by the engine that MULTIFACET_DOCKER_URL names."""

import asyncio
import signal

import structlog
import uvloop

from services.autoscaler.autoscaler import Autoscaler
from services.autoscaler.engine import DockerEngine
from shared.metadata.engine import create_engine, parse_url, session_factory
from shared.settings import Settings, get_settings
from shared.settings.start_up import CannotStart, ended_in_words, starting
from shared.telemetry.logs import configure_logging


def main() -> None:
    with ended_in_words():
        with starting():
            settings = get_settings()
            configure_logging(settings, "autoscaler")
            parse_url(settings.database_url)
        if not settings.docker_url:
            raise CannotStart(
                "MULTIFACET_DOCKER_URL is not set, so there is nothing to start workers with; give the address of a Docker "
                "engine's proxy, as http://docker-proxy:2375"
            )
        uvloop.run(run(settings))


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT."""
    database = create_engine(
        settings.database_url,
        pool_size=1,
        application_name="multifacet-autoscaler",
        patience=settings.database_patience_seconds,
    )
    try:
        async with DockerEngine(settings.docker_url, settings.docker_project) as engine:
            autoscaler = Autoscaler(settings, session_factory(database), engine)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, autoscaler.stop)
            await autoscaler.run()
    finally:
        await database.dispose()
    structlog.get_logger(__name__).info("autoscaler_ended")


if __name__ == "__main__":
    main()
