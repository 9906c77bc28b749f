"""Duty: bring doorbells from the outbox to the broker, after the transaction that wrote them."""

import asyncio

from services.controller.state import ControllerState
from shared.metadata.repositories.scheduling import SchedulingRepository

_BATCH = 200


async def publish_outbox(state: ControllerState) -> None:
    """Ring and remove. A crash in between rings twice, which claims make harmless; with the broker away they wait."""
    async with state.sessions() as session, session.begin():
        doorbells = await SchedulingRepository(session).doorbells(_BATCH)
    if not doorbells:
        return
    published = await asyncio.to_thread(state.publisher.publish, doorbells)
    if published:
        async with state.sessions() as session, session.begin():
            await SchedulingRepository(session).remove_doorbells(published)
