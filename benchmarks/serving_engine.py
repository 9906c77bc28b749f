"""Serving speed against `transformers serve` on this machine: `python -m benchmarks.serving_engine [--rounds N] [--requests N]`.

One model with random weights (Mistral's architecture, 135 million parameters) is made on the spot and served in turn by our
server and by the `transformers` command, with and without its continuous batching. As many clients ask for chat completions as
run at once, all servers the same prompts and lengths, greedy. Tokens are what a server says it wrote (`usage`). Each server is a
process of its own, started anew in each round; loading and a first answer are not timed.

On a machine that others use too only the ratio of a round says something, and even that is a range: the table has the cores
that others used meanwhile.

`--memory N` measures instead what our server's process holds after 0, 2,000 and every further 2,000 short answers of a tiny
model, up to N.
"""

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil

from benchmarks.machine import OtherLoad, Process, cpu_of_tree
from services.cli.embedded.supervisor import free_port

OURS, PLAIN, CONTINUOUS = "ours", "transformers serve", "transformers serve --continuous-batching"
SERVERS = (OURS, PLAIN, CONTINUOUS)
CLIENTS = 16
TOTAL_TOKENS = 2048
_VOCABULARY = 16384
_MEMORY_STEP = 2000
_START_SECONDS, _ANSWER_SECONDS = 300, 1800
_WORDS = [
    "river",
    "window",
    "careful",
    "number",
    "method",
    "garden",
    "simple",
    "result",
    "answer",
    "question",
    "people",
    "history",
    "water",
    "morning",
]


class Measured(msgspec.Struct, frozen=True):
    """One server in one round. `cpu_seconds` of its process and `other_cores` of everybody else's are of the timed part."""

    tokens: int
    seconds: float
    cpu_seconds: float
    other_cores: float
    resident_mb: float

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


def make_model(folder: Path, dtype: str, *, tiny: bool = False) -> None:
    """Write the model, or a tiny one, and its tokenizer. Its scores never put EOS first: every answer is as long as asked for."""
    import torch
    from transformers import MistralForCausalLM

    from services.training.models.random_models import mistral_7b_config, random_tokenizer, tiny_mistral_config
    from shared.chat_template import template_text

    config = tiny_mistral_config(_VOCABULARY) if tiny else mistral_7b_config()
    sizes: dict[str, Any] = {"vocab_size": _VOCABULARY, "max_position_embeddings": TOTAL_TOKENS}
    if not tiny:
        sizes |= {"hidden_size": 768, "intermediate_size": 2304, "num_hidden_layers": 16}
        sizes |= {"num_attention_heads": 12, "num_key_value_heads": 4, "head_dim": 64}
    config.update(sizes)
    torch.manual_seed(0)
    model = MistralForCausalLM(config)
    tokenizer = random_tokenizer(_WORDS)
    with torch.no_grad():
        model.lm_head.weight[tokenizer.eos_token_id] = 0
        # Nor tokens that the tokenizer has not: they would be no text.
        model.lm_head.weight[len(tokenizer) :] = 0
    tokenizer.chat_template = template_text()
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def prompts(count: int, words: int) -> list[str]:
    """Texts of a third to five thirds of `words` words, the same at every call."""
    draw = random.Random(7)
    return [" ".join(draw.choices(_WORDS, k=draw.randint(words // 3, words * 5 // 3))) for _ in range(count)]


@contextlib.contextmanager
def served(who: str, model: Path, slots: int, threads: int | None, log: Path) -> Iterator[tuple[Process, str]]:
    """The server's process and its address."""
    port = free_port()
    if who == OURS:
        arguments = [
            "services.inference.cpu_server", "--model-id", str(model), "--hostname", "127.0.0.1", "--port", str(port),
            "--slots", str(slots), "--max-total-tokens", str(TOTAL_TOKENS), "--max-input-tokens", str(TOTAL_TOKENS - 1),
        ]  # fmt: skip
    else:
        arguments = ["transformers.cli.transformers", "serve", str(model), "--host", "127.0.0.1", "--port", str(port)]
        arguments += ["--device", "cpu"]
        if who == CONTINUOUS:
            # As much room for keys and values as ours may take; the default is a share of the machine's memory.
            arguments += [
                "--continuous-batching",
                "--cb-num-blocks",
                str(slots * TOTAL_TOKENS // 32),
                "--cb-block-size",
                "32",
            ]
    environment = {"HF_HUB_OFFLINE": "1"} | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    process = Process(who, arguments, environment, log)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.stop(5)


async def _ready(process: Process, session: aiohttp.ClientSession, url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        process.require_alive()
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get(f"{url}/health") as answer:
                if answer.status == 200:
                    return
        await asyncio.sleep(0.2)
    raise RuntimeError(f"{process.name} was not ready within {_START_SECONDS} s")


async def _ask(session: aiohttp.ClientSession, url: str, model: str, text: str, tokens: int) -> int:
    """Tokens of one answer."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": tokens}
    async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
        told: dict[str, Any] = await answer.json(content_type=None)
        if answer.status != 200:
            raise RuntimeError(f"{url} answered {answer.status}: {told}")
    return int(told["usage"]["completion_tokens"])


async def _all(session: aiohttp.ClientSession, url: str, model: str, texts: list[str], tokens: int) -> int:
    """All texts, `CLIENTS` at once; tokens of all answers."""
    left = iter(texts)

    async def client() -> int:
        return sum([await _ask(session, url, model, text, tokens) for text in left])

    return sum(await asyncio.gather(*(client() for _ in range(CLIENTS))))


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS), connector=aiohttp.TCPConnector(limit=CLIENTS)
    )


async def measure(who: str, model: Path, texts: list[str], tokens: int, threads: int | None, log: Path) -> Measured:
    """One server from its start to its end."""
    with served(who, model, CLIENTS, threads, log) as (process, url):
        async with _session() as session:
            await _ready(process, session, url)
            await _ask(session, url, str(model), texts[0], 2)
            load, cpu, began = OtherLoad(), cpu_of_tree(process.pid), time.monotonic()
            written = await _all(session, url, str(model), texts, tokens)
            seconds = time.monotonic() - began
        resident = psutil.Process(process.pid).memory_info().rss / 2**20
        return Measured(written, seconds, cpu_of_tree(process.pid) - cpu, load.cores(), resident)


async def memory(model: Path, requests: int, threads: int | None, log: Path) -> None:
    """Print what our server holds before, on the way, and after."""
    with served(OURS, model, CLIENTS, threads, log) as (process, url):
        async with _session() as session:
            await _ready(process, session, url)
            done = 0
            for until in (*range(0, requests, _MEMORY_STEP), requests):
                await _all(session, url, str(model), prompts(until - done, 12), 4)
                done = until
                resident = psutil.Process(process.pid).memory_info().rss / 2**20
                print(f"after {done:,} answers: {resident:,.0f} MB resident", flush=True)


def _table(
    model: Path, rounds: int, texts: list[str], tokens: int, threads: int | None, chosen: list[str], logs: Path
) -> None:
    print("| round | server | tokens | tokens/s | ours / this | CPU s | others' cores | resident MB |")
    print("|---|---|---|---|---|---|---|---|")
    for number in range(1, rounds + 1):
        ours = 0.0
        for who in chosen:
            found = asyncio.run(measure(who, model, texts, tokens, threads, logs / "server.log"))
            if who == OURS:
                ours = found.tokens_per_second
            ratio = f"{ours / found.tokens_per_second:.1f}" if ours else ""
            print(
                f"| {number} | {who} | {found.tokens:,} | {found.tokens_per_second:.1f} | {ratio} | {found.cpu_seconds:.0f} "
                f"| {found.other_cores:.1f} | {found.resident_mb:,.0f} |",
                flush=True,
            )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving_engine", description="Serving speed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=2 * CLIENTS, help=f"of a measurement; {CLIENTS} at once")
    parser.add_argument("--tokens", type=int, default=96, help="of an answer")
    parser.add_argument("--words", type=int, default=60, help="of a prompt, on average")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument(
        "--servers", default=",".join(SERVERS), help="which, with commas between; the first is measured first"
    )
    parser.add_argument(
        "--threads", type=int, help="of torch in every server; two on two busy cores wait for each other"
    )
    parser.add_argument("--memory", type=int, metavar="N", help="measure memory over N answers instead")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped, too
    chosen = given.servers.split(",")
    if unknown := sorted(set(chosen) - set(SERVERS)):
        parser.error(f"unknown servers {', '.join(unknown)}; choose from {', '.join(SERVERS)}")
    folder = Path(tempfile.mkdtemp(prefix="multifacet-serving-"))
    try:
        make_model(folder / "model", given.dtype, tiny=bool(given.memory))
        threads = given.threads or "as torch has it"
        print(f"{given.dtype}, {CLIENTS} clients, {os.cpu_count()} cores, threads: {threads}")
        print(f"load average before: {os.getloadavg()[0]:.1f}\n")
        if given.memory:
            asyncio.run(memory(folder / "model", given.memory, given.threads, folder / "server.log"))
        else:
            texts = prompts(given.requests, given.words)
            _table(folder / "model", given.rounds, texts, given.tokens, given.threads, chosen, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
