from pathlib import Path

from sqlalchemy import text

from services.controller.garbage import collect
from services.controller.state import ControllerState
from shared.artifacts.directory import DirectoryStore
from shared.metadata.engine import create_engine, session_factory
from shared.queue.doorbell import DoorbellPublisher
from shared.settings import Settings

_ANSWER = "INSERT INTO cached_completion (key, project_id, provider, model, body, created_at) VALUES "


async def test_expired_answers_and_silent_workers_are_forgotten_and_the_rest_is_kept(
    postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    engine = create_engine(postgres_url, pool_size=2)
    settings = Settings(database_url=postgres_url, redis_url=redis_url, lease_seconds=3, llm_cache_ttl_seconds=3600)
    state = ControllerState(settings, session_factory(engine), DirectoryStore(tmp_path), DoorbellPublisher(redis_url))
    async with state.sessions() as session, session.begin():
        await session.execute(text(_ANSWER + "('\\x01', 'p', 'simulator', 'm', '\\x00', now() - interval '2 hours')"))
        await session.execute(
            text(_ANSWER + "('\\x02', 'p', 'simulator', 'm', '\\x00', now() - interval '10 minutes')")
        )
        for name, age in (("silent", 60), ("alive", 0)):
            await session.execute(
                text(
                    "INSERT INTO worker (id, host, process_id, roles, slots, busy, draining, heartbeat_at) "
                    f"VALUES ('{name}', 'h', 1, '{{curation}}', 2, 0, false, now() - interval '{age} seconds')"
                )
            )
    state.garbage_at = -1000.0
    await collect(state)
    async with state.sessions() as session:
        answers = (await session.execute(text("SELECT key FROM cached_completion"))).scalars().all()
        workers = (await session.execute(text("SELECT id FROM worker"))).scalars().all()
    await engine.dispose()
    assert [bytes(key) for key in answers] == [b"\x02"]
    assert workers == ["alive"]
