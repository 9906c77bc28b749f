"""A fast fake chat endpoint (aiohttp, OpenAI-compatible), for benchmarks only: prepared answers, faults on request.

python -m benchmarks.fake_endpoint --port 9000 [--latency-ms 200] [--tail-ms 300] [--calls-per-second 100 --burst 64]
    [--random-429 0.05] [--random-500 0.02]

Routes: POST /v1/chat/completions; GET /counters (calls, answered, rejected, failed, window_seconds from first call to
last answer, distinct bodies, most_often); POST /reset.
"""

import argparse
import asyncio
import json
import random
import time
import zlib
from collections import Counter

import uvloop
from aiohttp import web

_VOCABULARY = """
answer river window careful number method garden simple result first second because model table energy light
question example people history reason system water morning value public small change market paper village
science music winter letter machine nature friend coffee animal planet country measure doctor student engine
bridge forest story colour sound memory travel language evening picture weather teacher kitchen island market
"""
_WORDS = _VOCABULARY.split()
_SENTENCE = "The {} of the {} is for you, and it goes with a {} that you know."


def _answers(count: int = 256, words: int = 60) -> list[bytes]:
    """Prepared bodies whose texts differ from each other; usage 50 + 80 tokens."""
    generator = random.Random(7)
    bodies = []
    for number in range(count):
        # Sentences with the small words of English: what looks at answers shall meet what a model would write.
        sentences = (
            _SENTENCE.format(*(generator.choice(_WORDS) for _ in range(3)))
            for _ in range(words // len(_SENTENCE.split()))
        )
        text = " ".join(sentences) + f" Variant {number}."
        bodies.append(
            json.dumps(
                {
                    "id": f"chatcmpl-{number}",
                    "object": "chat.completion",
                    "created": 1_700_000_000,
                    "model": "fake",
                    "choices": [
                        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
                    ],
                    "usage": {"prompt_tokens": 50, "completion_tokens": 80, "total_tokens": 130},
                }
            ).encode()
        )
    return bodies


class FakeEndpoint:
    """The handler and its counters. Rejections and failures are answered at once, answers after the latency."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._bodies = _answers()
        self._random = random.Random(options.seed)
        self.reset()

    def reset(self) -> None:
        self.calls = self.answered = self.rejected = self.failed = 0
        self.first_call = self.last_answer = 0.0
        self._seen: Counter[int] = Counter()
        self._level = float(self._options.burst)
        self._level_at = time.monotonic()

    def counters(self) -> dict[str, float]:
        return {
            "calls": self.calls,
            "answered": self.answered,
            "rejected": self.rejected,
            "failed": self.failed,
            "window_seconds": round(self.last_answer - self.first_call, 4),
            "distinct": len(self._seen),
            "most_often": max(self._seen.values(), default=0),
        }

    def _over_limit(self) -> bool:
        rate = self._options.calls_per_second
        if not rate:
            return False
        now = time.monotonic()
        self._level = min(self._options.burst, self._level + (now - self._level_at) * rate)
        self._level_at = now
        if self._level < 1.0:
            return True
        self._level -= 1.0
        return False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/counters":
            return web.json_response(self.counters())
        if request.path == "/reset":
            self.reset()
            return web.json_response({})
        options = self._options
        body = await request.read()
        digest = zlib.crc32(body)
        self.calls += 1
        if not self.first_call:
            self.first_call = time.monotonic()
        if options.late_rejections:
            await asyncio.sleep(options.latency_ms / 1000)
        draw = self._random.random()
        if draw < options.random_429 or self._over_limit():
            self.rejected += 1
            return web.Response(
                status=429, headers={"Retry-After": "1"}, body=b'{"error":{"message":"slow down","type":"rate_limit"}}'
            )
        if draw < options.random_429 + options.random_500:
            self.failed += 1
            return web.Response(status=500, body=b'{"error":{"message":"broken","type":"server_error"}}')
        latency = options.latency_ms / 1000
        if options.tail_ms:
            latency += self._random.expovariate(1000 / options.tail_ms)
        if latency and not options.late_rejections:
            await asyncio.sleep(latency)
        self._seen[digest] += 1
        self.answered += 1
        self.last_answer = time.monotonic()
        return web.Response(body=self._bodies[digest % len(self._bodies)], content_type="application/json")


async def serve(options: argparse.Namespace) -> None:
    """Serve until cancelled; prints `ready PORT` when calls are taken."""
    endpoint = FakeEndpoint(options)
    runner = web.ServerRunner(web.Server(endpoint.handle, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", options.port)
    await site.start()
    port = runner.addresses[0][1]
    print(f"ready {port}", flush=True)
    await asyncio.Event().wait()


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Fast fake chat endpoint for benchmarks")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=200.0)
    parser.add_argument("--tail-ms", type=float, default=0.0, help="mean of an exponential tail on top of the latency")
    parser.add_argument("--calls-per-second", type=float, default=0.0, help="0: no limit")
    parser.add_argument("--burst", type=float, default=64.0)
    parser.add_argument("--random-429", type=float, default=0.0)
    parser.add_argument("--random-500", type=float, default=0.0)
    parser.add_argument(
        "--late-rejections", action="store_true", help="429 and 500 come after the latency, not at once"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    uvloop.run(serve(arguments().parse_args()))
