"""The Perspective API as a scorer of toxicity (attribute TOXICITY, 0 to 1). It is being retired: a local classifier outlives
it."""

import asyncio
import time
from typing import Any

import aiohttp

from shared.domain.errors import InputRefused, StepDeferred
from shared.settings import Settings
from shared.settings.perspective import PERSPECTIVE_POINTER, require_perspective_key

TRIES = 5
_AGAIN = frozenset({429, 500, 502, 503, 504})
_SECONDS = 30.0


class Perspective:
    """Asks at most `perspective_requests_per_second` of the settings; the key is sent as a header and never logged."""

    def __init__(self, settings: Settings) -> None:
        """Raises InputRefused where the operator has set no key."""
        require_perspective_key(settings)
        self._settings = settings
        self._next = 0.0
        self._session: aiohttp.ClientSession | None = None

    async def toxicity(self, text: str) -> float | None:
        """The score of one text, None for one that the API cannot score (a language it does not know, an empty text).

        Raises InputRefused for a key that is refused, StepDeferred where it does not answer.
        """
        body = {
            "comment": {"text": text},
            "requestedAttributes": {"TOXICITY": {}},
            "doNotStore": True,
        }
        for attempt in range(TRIES):
            await self._wait()
            try:
                status, answer = await self._post(body)
            except (aiohttp.ClientError, TimeoutError):
                status, answer = 503, {}
            if status == 200:
                return float(answer["attributeScores"]["TOXICITY"]["summaryScore"]["value"])
            if status in {401, 403}:
                raise InputRefused(
                    "Perspective refuses the key; set another MULTIFACET_PERSPECTIVE_KEY", PERSPECTIVE_POINTER
                )
            if status not in _AGAIN:
                return None
            await asyncio.sleep(min(8.0, 0.5 * 2**attempt))
        raise StepDeferred("Perspective does not answer", 30.0)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _post(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS))
        headers = {"x-goog-api-key": self._settings.perspective_key.get_secret_value()}
        async with self._session.post(self._settings.perspective_url, json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None) if answer.status == 200 else {}

    async def _wait(self) -> None:
        """Until this request's turn: turns are a fixed time apart."""
        now = time.monotonic()
        turn = max(now, self._next)
        self._next = turn + 1 / self._settings.perspective_requests_per_second
        await asyncio.sleep(turn - now)
