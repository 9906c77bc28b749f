"""A model server that costs next to nothing: OpenAI's chat route as a stream of tokens at a fixed pace.

`python -m benchmarks.stub_model_server --first-ms 50 --token-ms 40 --tokens 32` prints `port <n>` and serves until it is ended.
"""

import argparse
import asyncio
import sys

import uvloop

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
_COMMON = b'data: {"id":"chatcmpl-stub","object":"chat.completion.chunk","created":1,"model":"stub",'


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


def _token(number: int) -> bytes:
    choice = b'"choices":[{"index":0,"delta":{"content":"t%d "},"logprobs":null,"finish_reason":null}]}\n\n' % number
    return _chunk(_COMMON + choice)


class _Server:
    def __init__(self, first_seconds: float, token_seconds: float, tokens: int) -> None:
        self._first = first_seconds
        self._pause = token_seconds
        self._tokens = [_token(number) for number in range(tokens)]
        finish = _COMMON + b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
        usage = b'"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":%d,"total_tokens":%d}}\n\n'
        counted = _COMMON + usage % (tokens, 20 + tokens)
        self._end = _chunk(finish) + _chunk(counted) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept alive. Tokens leave at fixed moments after the request, however long writing takes."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
                await reader.readexactly(length)
                due = loop.time() + self._first
                writer.write(_HEAD)
                for token in self._tokens:
                    await asyncio.sleep(max(0.0, due - loop.time()))
                    writer.write(token)
                    due += self._pause
                writer.write(self._end)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _main(first_seconds: float, token_seconds: float, tokens: int) -> None:
    server = await asyncio.start_server(_Server(first_seconds, token_seconds, tokens).serve, "127.0.0.1", 0)
    sys.stdout.write(f"port {server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stub_model_server", description=__doc__)
    parser.add_argument("--first-ms", type=float, default=50.0)
    parser.add_argument("--token-ms", type=float, default=40.0)
    parser.add_argument("--tokens", type=int, default=32)
    options = parser.parse_args()
    uvloop.run(_main(options.first_ms / 1000, options.token_ms / 1000, options.tokens))
