"""The system message of a request that says what a person prefers: by preferences, or by the name of a stored profile."""

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from services.api.gateway.asking import ChatCall
from services.api.gateway.errors import LiveError, of_input
from shared.chat_template.conversation import Message
from shared.domain.errors import InputRefused
from shared.domain.profiles import ProfileNotFound, StatedPreference
from shared.domain.taxonomy import default_taxonomy
from shared.metadata.repositories.profiles import ProfileRepository
from shared.personal.composer import compose

_REMEMBERED_SECONDS = 1.0
_MOST_PROFILES = 1_000


class Person(msgspec.Struct, frozen=True):
    """What a system message was made of."""

    system: str
    profile: dict[str, Any] | None = None
    """{"name", "version"} of a stored profile."""


class People:
    """Composes preferences of the taxonomy that the project carries; profiles are remembered for a second."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions
        self._remembered: dict[tuple[str, str], tuple[float, Person]] = {}

    async def person_of(self, project_id: str, call: ChatCall) -> Person | None:
        """None where the request names nobody. Raises LiveError (400) for a profile or a preference that is unknown."""
        if call.profile is not None:
            return await self._stored(project_id, call.profile)
        if not call.preferences:
            return None
        try:
            return Person(_composed(call.preferences))
        except InputRefused as error:
            raise of_input(error) from None

    async def _stored(self, project_id: str, name: str) -> Person:
        now = time.monotonic()
        read_at, person = self._remembered.get((project_id, name), (0.0, None))
        if person is not None and now - read_at < _REMEMBERED_SECONDS:
            return person
        try:
            async with self._sessions() as session:
                version = await ProfileRepository(session).current(project_id, name)
        except ProfileNotFound as error:
            self._remembered.pop((project_id, name), None)
            raise LiveError(400, error.code, str(error), param="profile") from None
        person = Person(version.system, {"name": name, "version": version.version})
        if len(self._remembered) >= _MOST_PROFILES:
            self._remembered.clear()
        self._remembered[project_id, name] = (now, person)
        return person


def with_person(messages: Sequence[Message], person: Person | None) -> Sequence[Message]:
    """The messages with the person's system message first; the request's own follows in it after a blank line."""
    if person is None or not person.system:
        return messages
    if messages[0]["role"] == "system":
        return [{"role": "system", "content": f"{person.system}\n\n{messages[0]['content']}"}, *messages[1:]]
    return [{"role": "system", "content": person.system}, *messages]


@lru_cache(maxsize=1_000)
def _composed(preferences: tuple[StatedPreference, ...]) -> str:
    return compose(preferences, default_taxonomy())
