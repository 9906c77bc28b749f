"""Reads the events of a streamed answer."""

from typing import Any

import httpx2
import orjson


def events_of(response: httpx2.Response) -> list[Any]:
    """The data of each event; `[DONE]` as that text."""
    texts = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    return [text if text == "[DONE]" else orjson.loads(text) for text in texts]
