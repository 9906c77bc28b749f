"""`python -m services.inference.cpu_server --model-id FOLDER`: serve one model on the CPU until SIGTERM or SIGINT."""

import asyncio
import os
import socket
import sys
from typing import Any

import uvloop

from services.inference.cpu_server.command_line import ServerArguments, parse_arguments
from services.inference.cpu_server.http.metrics import Metrics
from services.inference.cpu_server.http.sequences import Service
from services.inference.cpu_server.http.texts import Texts
from services.inference.cpu_server.serving import listening_socket, serve
from shared.domain.errors import InputRefused
from shared.settings import get_settings
from shared.settings.start_up import CannotStart, ended_in_words, starting
from shared.telemetry.logs import configure_logging

_KERNELS_KEPT = "32"
"""By oneDNN. Each number of tokens in a step is a kernel of its own; its own default of 1,024 takes 90 MB and is no faster."""


def main() -> None:
    with ended_in_words():
        arguments = parse_arguments()
        with starting():
            configure_logging(get_settings(), "cpu_server")
        try:
            listener = listening_socket(arguments.hostname, arguments.port)
        except OSError as error:
            raise CannotStart(
                f"--hostname {arguments.hostname} --port {arguments.port} cannot be listened on ({error.strerror}); set others"
            ) from error
        uvloop.run(_run(arguments, listener))


async def _run(arguments: ServerArguments, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    _say(f"model server listening on {address}")
    await serve(
        listener,
        lambda: _load(arguments),
        grace_seconds=arguments.grace_seconds,
        ready=lambda: _say(f"model server ready: {arguments.name}"),
    )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def _load(arguments: ServerArguments) -> Service:
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _KERNELS_KEPT)  # read when torch first multiplies
    from services.inference.cpu_server.engine.opening import open_engine  # torch takes seconds, the port does not wait

    texts = await asyncio.to_thread(_texts, arguments)
    engine = await asyncio.to_thread(
        open_engine,
        arguments.folder,
        slots=arguments.slots,
        maximum_total_tokens=arguments.limits.max_total_tokens,
        dtype=arguments.dtype,
        adapters=arguments.adapters,
        model_id=arguments.name,
        # Whoever may come in may wait: what is refused is refused by one rule.
        maximum_waiting=max(0, arguments.limits.max_concurrent_requests - arguments.slots),
    )
    await engine.start()
    return Service(engine, texts, arguments.limits, arguments.name, Metrics(arguments.limits))


def _texts(arguments: ServerArguments) -> Texts:
    from transformers import AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(arguments.folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InputRefused(
            f"the tokenizer in {arguments.folder} cannot be read ({error}); save it again from its source"
        ) from error
    return Texts(tokenizer, arguments.limits.max_input_tokens)


if __name__ == "__main__":
    main()
