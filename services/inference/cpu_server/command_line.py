"""The command line of the CPU server: `text-generation-launcher`'s flags, as far as they mean something here, and ours."""

import argparse
from pathlib import Path

import msgspec

from services.inference.cpu_server.http.limits import Limits
from shared.domain.errors import InputRefused
from shared.model_folder import check_model_folder

DTYPES = ("auto", "float32", "float16", "bfloat16")
LARGEST_DEFAULT = 4096
"""Tokens of prompt and answer where neither the command line nor the model says less."""


class ServerArguments(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, checked."""

    folder: Path
    name: str
    hostname: str
    port: int
    limits: Limits
    dtype: str
    slots: int
    adapters: dict[str, Path]
    grace_seconds: float


def parse_arguments(arguments: list[str] | None = None) -> ServerArguments:
    """Exits with 2 where an option is wrong; raises InputRefused for a folder that cannot be served, and for limits that
    leave no room or that the model cannot keep."""
    options = _parser().parse_args(arguments)
    folder: Path = options.model_id
    try:
        config = check_model_folder(folder)
    except InputRefused as error:
        raise InputRefused(f"--model-id {folder} cannot be served: {error}") from error
    return ServerArguments(
        folder=folder,
        name=options.served_name or str(folder),
        hostname=options.hostname,
        port=options.port,
        limits=_limits(options, config.get("max_position_embeddings")),
        dtype=options.dtype,
        slots=options.slots,
        adapters=_adapters(options.lora_adapters),
        grace_seconds=options.graceful_termination_timeout,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.inference.cpu_server",
        description="Serves one model from a folder on the CPU, with the routes of Text Generation Inference 3.3.",
    )
    add = parser.add_argument
    add("--model-id", type=Path, required=True, metavar="FOLDER", help="the model: config.json, safetensors, tokenizer")
    add("--served-name", metavar="NAME", help="what the model is called in answers (default: the folder)")
    add("--hostname", default="127.0.0.1", help="address to listen on (default: %(default)s; there are no keys)")
    add("--port", type=_whole(0), default=3000, help="0 takes a free one, printed at start (default: %(default)s)")
    add("--max-input-tokens", type=_whole(1), metavar="N", help="longest prompt (default: max-total-tokens less 1)")
    add(
        "--max-total-tokens",
        type=_whole(2),
        metavar="N",
        help=f"longest prompt and answer together (default: what the model takes, at most {LARGEST_DEFAULT})",
    )
    add(
        "--max-concurrent-requests",
        type=_whole(1),
        default=128,
        metavar="N",
        help="more get 429 (default: %(default)s)",
    )
    add("--max-best-of", type=_whole(1), default=2, metavar="N", help="largest best_of (default: %(default)s)")
    add("--max-stop-sequences", type=_whole(0), default=4, metavar="N", help="most stop texts (default: %(default)s)")
    add(
        "--max-top-n-tokens", type=_whole(0), default=5, metavar="N", help="largest top_n_tokens (default: %(default)s)"
    )
    add(
        "--max-client-batch-size",
        type=_whole(1),
        default=4,
        metavar="N",
        help="most prompts of one /v1/completions (default: %(default)s)",
    )
    add(
        "--payload-limit",
        type=_whole(1),
        default=2_000_000,
        metavar="BYTES",
        help="largest body (default: %(default)s)",
    )
    add(
        "--dtype", choices=DTYPES, default="auto", help="type of the weights (default: %(default)s, as they are stored)"
    )
    add(
        "--lora-adapters",
        default="",
        metavar="NAME=FOLDER,…",
        help="adapters beside the model, asked for by adapter_id or model",
    )
    add("--slots", type=_whole(1), default=16, metavar="N", help="sequences that run at once (default: %(default)s)")
    add(
        "--graceful-termination-timeout",
        type=_seconds,
        default=90.0,
        metavar="SECONDS",
        help="how long answers under way may go on after SIGTERM (default: %(default)s)",
    )
    return parser


def _limits(options: argparse.Namespace, longest: object) -> Limits:
    """`longest`: what the model's configuration says of it (`max_position_embeddings`), where it does."""
    most = longest if isinstance(longest, int) and longest > 1 else None
    total = options.max_total_tokens or min(LARGEST_DEFAULT, most or LARGEST_DEFAULT)
    if most is not None and total > most:
        raise InputRefused(
            f"--max-total-tokens is {total}, but the model takes {most} tokens (max_position_embeddings in its config.json); "
            f"set {most} or less"
        )
    prompt = options.max_input_tokens or total - 1
    if prompt >= total:
        raise InputRefused(
            f"--max-input-tokens is {prompt}, which leaves no token to answer within --max-total-tokens {total}; set less"
        )
    return Limits(
        max_input_tokens=prompt,
        max_total_tokens=total,
        max_concurrent_requests=options.max_concurrent_requests,
        max_best_of=options.max_best_of,
        max_stop_sequences=options.max_stop_sequences,
        max_top_n_tokens=options.max_top_n_tokens,
        max_client_batch_size=options.max_client_batch_size,
        payload_limit=options.payload_limit,
    )


def _adapters(text: str) -> dict[str, Path]:
    adapters: dict[str, Path] = {}
    for entry in text.split(",") if text else []:
        name, separator, folder = entry.partition("=")
        if not (name and separator and folder):
            raise InputRefused(f"--lora-adapters has {entry!r}; write NAME=FOLDER, several separated by commas")
        if name in adapters:
            raise InputRefused(f"--lora-adapters names {name!r} twice; give each adapter its own name")
        if not (Path(folder) / "adapter_config.json").is_file():
            raise InputRefused(
                f"--lora-adapters {name}: {folder} has no adapter_config.json; give a folder of adapters"
            )
        adapters[name] = Path(folder)
    return adapters


def _whole(least: int) -> "type[int]":
    def read(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is below {least}")
        return value

    read.__name__ = "int"
    return read  # type: ignore[return-value]


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return value
