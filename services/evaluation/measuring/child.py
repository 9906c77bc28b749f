"""The child process with the local models, as the worker's loop sees it: started once, asked one request at a time, started
anew once where it died."""

import asyncio
import os
import sys
from typing import Any

import orjson
import structlog

from shared.domain.errors import InputRefused, StepFailed
from shared.domain.evaluations import MeasureParameters

_log = structlog.get_logger(__name__)

_LONGEST_LINE = 256 << 20
TRIES = 2
"""Of one request: the second with a process started anew."""


class LocalModels:
    """Scores texts by a child process with the models of `parameters`."""

    def __init__(self, parameters: MeasureParameters) -> None:
        self._parameters = parameters
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def ask(self, prompt: str, texts: list[str], best: list[str]) -> dict[str, Any]:
        """`toxicity` and `perplexity` of each text (after `prompt`), `distances` between the texts of `best`: what there is a
        model for.

        Raises InputRefused for a model that cannot be used, StepFailed `local_model_failed` where the process dies twice.
        """
        line = orjson.dumps({"prompt": prompt, "texts": texts, "best": best}, option=orjson.OPT_APPEND_NEWLINE)
        async with self._turn:
            for _ in range(TRIES):
                process = self._process or await self._start()
                try:
                    assert process.stdin is not None
                    process.stdin.write(line)
                    await process.stdin.drain()
                    reply = await _line(process)
                except (ConnectionError, EOFError):
                    code = await self._end()
                    _log.warning("local_models_died", exit_code=code)
                    continue
                except BaseException:
                    await self._end()  # a reply that is still on its way would be taken for the next one's
                    raise
                return reply
        raise StepFailed(
            "local_model_failed",
            f"the process with the models of evaluate.measure died {TRIES} times at one request; look at the worker's log, and "
            "give it more memory or smaller models",
        )

    async def close(self) -> None:
        async with self._turn:
            await self._end()

    @property
    def process_id(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def _start(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.evaluation.local_models",
            self._parameters.model_dump_json(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
            # Not with the ids of a step: it serves any of its stage.
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        self._process = process
        try:
            first = await _line(process)
        except (ConnectionError, EOFError):
            code = await self._end()
            raise StepFailed(
                "local_model_failed",
                f"the process with the models of evaluate.measure ended at its start (exit code {code})",
            ) from None
        if "error" in first:
            await self._end()
            raise InputRefused(f"a model of evaluate.measure cannot be used: {first['error']}", first["pointer"])
        return process

    async def _end(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        if process.returncode is None:
            process.kill()
        return await process.wait()


async def _line(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    found: dict[str, Any] = orjson.loads(line)
    return found
