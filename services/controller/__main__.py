"""`python -m services.controller`: one controller process. Several may run; one leads, the others wait."""

import asyncio
import signal

import structlog
import uvloop

from services.controller.controller import Controller
from shared.metadata.engine import parse_url
from shared.settings import Settings, get_settings
from shared.settings.start_up import ended_in_words, starting
from shared.telemetry.logs import configure_logging
from shared.telemetry.tracing import configure_tracing


def main() -> None:
    with ended_in_words():
        with starting():
            settings = get_settings()
            configure_logging(settings, "controller")
            configure_tracing(settings, "controller")
            parse_url(settings.database_url)
        uvloop.run(run(settings))


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT."""
    controller = Controller(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, controller.stop)
    await controller.run()
    structlog.get_logger(__name__).info("controller_ended")


if __name__ == "__main__":
    main()
