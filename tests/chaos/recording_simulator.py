"""The simulator with a journal: `python -m tests.chaos.recording_simulator JOURNAL …` (the rest as `services.simulator`).

Each call that ended is a line `{"started", "ended", "digest", "class", "status"}` of JOURNAL: times by the machine's clock,
`digest` stands for the exact body. A call whose client went away has status 499.
"""

import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import TextIO

import orjson
import uvloop
from aiohttp import web
from aiohttp.typedefs import Handler

from services.simulator.__main__ import initial_plan, parse_arguments, serve
from services.simulator.server import CLASS_HEADER, Simulator


def recording(journal: TextIO) -> object:
    @web.middleware
    async def record(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.endswith("/chat/completions"):
            return await handler(request)
        started, status = time.time(), 499
        body = await request.read()
        try:
            response = await handler(request)
            status = response.status
            return response
        finally:
            line = {
                "started": started,
                "ended": time.time(),
                "digest": sha256(body).hexdigest()[:24],
                "class": request.headers.get(CLASS_HEADER, ""),
                "status": status,
            }
            journal.write(orjson.dumps(line).decode() + "\n")
            journal.flush()

    return record


class RecordingSimulator(Simulator):
    """Writes the journal of what it is asked."""

    def __init__(self, journal: TextIO, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self._journal = journal

    def application(self) -> web.Application:
        application = super().application()
        application.middlewares.append(recording(self._journal))  # type: ignore[arg-type]
        return application


def main() -> None:
    options = parse_arguments(sys.argv[2:])
    models = tuple(name.strip() for name in options.models.split(",") if name.strip())
    with Path(sys.argv[1]).open("a", encoding="utf-8") as journal:
        simulator = RecordingSimulator(journal, seed=options.seed, plan=initial_plan(options.faults), models=models)
        uvloop.run(serve(simulator, options.host, options.port))


if __name__ == "__main__":
    main()
