"""`python -m services.simulator --port 9000`: serve until SIGTERM or SIGINT."""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

import uvloop
from aiohttp import web

from services.simulator.faults import FaultPlan, FaultPlanRefused, load_fault_plan, parse_fault_plan
from services.simulator.server import DEFAULT_MODELS, Simulator

FAULTS_VARIABLE = "MULTIFACET_SIMULATOR_FAULTS"
SEED_VARIABLE = "MULTIFACET_SIMULATOR_SEED"
BACKLOG = 4096
SHUTDOWN_SECONDS = 1.0


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line. Exits with 2 and a message where it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m services.simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000, help="0 takes a free one, printed at start")
    parser.add_argument("--seed", type=int, default=int(os.environ.get(SEED_VARIABLE, "0")), help="seed of all answers")
    parser.add_argument("--models", default=",".join(DEFAULT_MODELS), help="names served, separated by commas")
    parser.add_argument("--faults", type=Path, help=f"fault plan, a JSON file; else the text of ${FAULTS_VARIABLE}")
    return parser.parse_args(arguments)


def initial_plan(path: Path | None) -> FaultPlan:
    """The plan of the file, else of the environment, else one without faults. Raises FaultPlanRefused."""
    if path is not None:
        return load_fault_plan(path)
    text = os.environ.get(FAULTS_VARIABLE)
    return parse_fault_plan(text) if text else FaultPlan()


async def serve(simulator: Simulator, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; the first line on standard output says where. Raises OSError when the port is taken."""
    # A client that went away ends its handler: else simulated hangs would pile up.
    runner = web.AppRunner(
        simulator.application(), access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_SECONDS
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
        bound = runner.addresses[0]
        sys.stdout.write(f"simulator listening on http://{bound[0]}:{bound[1]}\n")
        sys.stdout.flush()
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stopped.set)
        await stopped.wait()
    finally:
        await runner.cleanup()


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 after a signal, 2 where the fault plan or the address cannot be used."""
    options = parse_arguments(arguments)
    models = tuple(name.strip() for name in options.models.split(",") if name.strip())
    try:
        plan = initial_plan(options.faults)
        uvloop.run(serve(Simulator(seed=options.seed, plan=plan, models=models), options.host, options.port))
    except (FaultPlanRefused, OSError) as error:
        sys.stderr.write(f"simulator: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
