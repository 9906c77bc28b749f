"""A backup that is made while a job runs: restored elsewhere, the job goes on and ends; what had ended is there byte for byte."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.cli.embedded.postgres import EmbeddedPostgres
from shared.artifacts.directory import DirectoryStore
from shared.artifacts.tables import read_rows
from shared.operations.backup import back_up
from shared.operations.restore import restore
from tests.shared.operations.systems import new_database
from tests.support.control_plane import ControlPlane, toy_spec

pytestmark = [pytest.mark.slow, pytest.mark.long]

HALF_DONE = (
    "SELECT count(*) FILTER (WHERE state = 'succeeded') >= 2 AND count(*) FILTER (WHERE state = 'running') > 0 "
    "FROM step WHERE job_id = %s AND queue = 'augmentation'"
)


@pytest.fixture
async def plane(postgres_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[ControlPlane]:
    (tmp_path / "before").mkdir()
    plane = ControlPlane(postgres_url, redis_url, tmp_path / "before")
    yield plane
    plane.close()
    await plane.engine.dispose()


def records(plane: ControlPlane, job_id: str) -> list[tuple[Any, ...]]:
    return plane.rows("SELECT * FROM artifact WHERE job_id = %s ORDER BY key", job_id)


def contents(plane: ControlPlane, job_id: str) -> dict[str, bytes]:
    folder = plane.folder / "artifacts"
    return {
        key: (folder / key).read_bytes() for (key,) in plane.rows("SELECT key FROM artifact WHERE job_id = %s", job_id)
    }


@pytest.mark.timeout(2400)
async def test_a_job_under_way_goes_on_after_a_restore_and_a_finished_one_is_unchanged(
    plane: ControlPlane, postgres_server: EmbeddedPostgres, redis_url: str, tmp_path: Path
) -> None:
    plane.start_controller()
    plane.start_worker(TOY_ROW_SECONDS="0.2")
    finished = await plane.submit(toy_spec("finished", 32, stop_after="augment"))
    assert (await plane.wait(finished.id, 900)).state == "succeeded"
    under_way = await plane.submit(toy_spec("slow under way", 96, stop_after="compose"))
    await plane.wait_for(HALF_DONE, under_way.id, seconds=900)

    made = await back_up(plane.url, DirectoryStore(tmp_path / "before" / "artifacts"), tmp_path / "backup")
    assert made.lost == ()
    plane.close()

    (tmp_path / "after").mkdir()
    url = new_database(postgres_server)
    store = DirectoryStore(tmp_path / "after" / "artifacts")
    await restore(url, store, tmp_path / "backup")
    after = ControlPlane(url, redis_url, tmp_path / "after")
    try:
        assert records(after, finished.id) == records(plane, finished.id)
        assert contents(after, finished.id) == contents(plane, finished.id)
        before = {step for (step,) in after.rows("SELECT id FROM step WHERE state = 'succeeded'")}
        after.start_controller()
        after.start_worker(TOY_ROW_SECONDS="0")
        done = await after.wait(under_way.id, 900)
        assert (done.state, done.error) == ("succeeded", None), after.logs()
        tries = after.rows("SELECT step_id, count(*) FROM attempt WHERE state = 'succeeded' GROUP BY step_id")
        assert {count for _, count in tries} == {1}
        # What had succeeded before was not done again.
        again = after.rows("SELECT step_id FROM attempt GROUP BY step_id HAVING count(*) > 1")
        assert not before & {step for (step,) in again}
        for stage in ("curate", "augment", "compose"):
            parts = after.rows(
                "SELECT key FROM artifact WHERE job_id = %s AND stage = %s AND name LIKE 'part-%%' ORDER BY name",
                under_way.id,
                stage,
            )
            rows = [row.source_row for (key,) in parts for row in read_rows(after.folder / "artifacts" / key)]
            assert rows == list(range(96)), stage
    finally:
        after.close()
        await after.engine.dispose()
