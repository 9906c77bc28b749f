"""`python -m services.controller`: one controller process. Several may run; one leads, the others wait."""

import asyncio
import signal

import structlog
import uvloop

from services.controller.controller import Controller
from shared.settings import get_settings
from shared.telemetry.logs import configure_logging


async def run() -> None:
    settings = get_settings()
    configure_logging(settings, "controller")
    controller = Controller(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, controller.stop)
    await controller.run()
    structlog.get_logger(__name__).info("controller_ended")


if __name__ == "__main__":
    uvloop.run(run())
