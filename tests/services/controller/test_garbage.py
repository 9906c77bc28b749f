import os
import time
from pathlib import Path

from sqlalchemy import text

from services.controller.garbage import collect
from services.controller.state import ControllerState
from shared.artifacts import open_store
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


async def test_what_nothing_names_goes_beside_the_duties_and_not_again_before_the_interval_is_over(
    postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    engine = create_engine(postgres_url, pool_size=2)
    settings = Settings(database_url=postgres_url, redis_url=redis_url, lease_seconds=3)
    store = DirectoryStore(tmp_path / "objects")
    state = ControllerState(settings, session_factory(engine), store, DoorbellPublisher(redis_url))

    async def left_behind() -> list[str]:
        await store.put_bytes("uploads/p/file_x/rows.jsonl", b"cut off")
        os.utime(tmp_path / "objects/uploads/p/file_x/rows.jsonl", (time.time() - 90_000,) * 2)
        state.garbage_at = -1000.0
        await collect(state)
        assert state.cleaning is not None
        await state.cleaning
        return [info.key async for info in store.list_objects("")]

    assert await left_behind() == []
    assert await left_behind() == ["uploads/p/file_x/rows.jsonl"]
    state.cleaned_at = time.monotonic() - settings.retention_interval_seconds
    assert await left_behind() == []
    await state.close()
    await engine.dispose()


async def test_a_store_that_is_away_is_no_trouble_for_the_controller(
    postgres_url: str, redis_url: str, s3_settings: Settings
) -> None:
    engine = create_engine(postgres_url, pool_size=2)
    without_bucket = open_store(s3_settings)
    settings = Settings(database_url=postgres_url, redis_url=redis_url, lease_seconds=3)
    state = ControllerState(settings, session_factory(engine), without_bucket, DoorbellPublisher(redis_url))
    state.garbage_at = -1000.0
    await collect(state)
    assert state.cleaning is not None
    await state.cleaning  # raises nothing
    await engine.dispose()
