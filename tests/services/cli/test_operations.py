"""`multifacet backup`, `verify-backup`, `restore` and `garbage` as an operator runs them, on the system of one machine."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from services.cli.administered import administered_settings
from services.cli.embedded.postgres import EmbeddedPostgres
from services.cli.embedded.state import StateFolder
from shared.artifacts import open_store
from tests.shared.operations.systems import PROJECT, SmallSystem, small_system

pytestmark = pytest.mark.slow


@pytest.fixture
def system(postgres_server: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> SmallSystem:
    return small_system(postgres_server, migrated_template, tmp_path / "objects")


def multifacet(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MULTIFACET_")}
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.mark.timeout(1800)
async def test_a_system_is_backed_up_and_restored_onto_this_machine(
    system: SmallSystem, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    job_id = await system.fill()
    names = {"MULTIFACET_DATABASE_URL": system.url, "MULTIFACET_ARTIFACT_DIRECTORY": str(tmp_path / "objects")}
    backup = str(tmp_path / "backup")

    made = multifacet("backup", backup, **names)
    assert made.returncode == 0, made.stderr
    assert "4 objects" in made.stdout
    whole = multifacet("verify-backup", backup)
    assert (whole.returncode, "4 objects" in whole.stdout) == (0, True), whole.stderr
    refused = multifacet("restore", backup, **names)
    assert refused.returncode == 1
    assert "the database is not empty" in refused.stderr

    # As root PostgreSQL runs as somebody else, who must be able to pass through all folders above its own.
    machine = Path(tempfile.mkdtemp(prefix="mf-operations-"))
    machine.chmod(0o755)
    request.addfinalizer(lambda: shutil.rmtree(machine, ignore_errors=True))
    here = {"MULTIFACET_STATE_FOLDER": str(machine / "state")}
    restored = multifacet("restore", backup, **here)
    assert restored.returncode == 0, restored.stderr
    with administered_settings(StateFolder(machine / "state")) as settings:
        found = SmallSystem(settings.database_url, open_store(settings))
        assert found.dump() == system.dump()
        assert await found.content() == await system.content()

    part = next((tmp_path / "backup").rglob("part-*.parquet"))
    part.write_bytes(b"changed")
    damaged = multifacet("verify-backup", backup)
    assert damaged.returncode == 1
    assert f"{job_id}/00-curate/part-00000-1.parquet was changed" in damaged.stderr


@pytest.mark.timeout(1800)
async def test_garbage_is_listed_before_it_is_removed(system: SmallSystem, tmp_path: Path) -> None:
    job_id = await system.fill()
    system.execute("UPDATE job SET state = 'succeeded', finished_at = now(), settled_at = now() - interval '3 days'")
    names = {
        "MULTIFACET_DATABASE_URL": system.url,
        "MULTIFACET_ARTIFACT_DIRECTORY": str(tmp_path / "objects"),
        "MULTIFACET_RETENTION_ARTIFACTS_SECONDS": "86400",
        "COLUMNS": "200",
    }
    before = await system.content()
    listed = multifacet("garbage", "--dry-run", **names)
    assert listed.returncode == 0, listed.stderr
    assert job_id in listed.stdout
    assert "artifacts: 3, 6 B" in listed.stdout
    assert "6 B would be removed" in listed.stdout
    assert await system.content() == before

    removed = multifacet("garbage", **names)
    assert "6 B removed" in removed.stdout, removed.stderr
    assert [key for key in await system.content() if key.startswith("artifacts/")] == []
    assert [key for key in await system.content() if key.startswith(f"uploads/{PROJECT}/")] != []
    assert "nothing is past its age" in multifacet("garbage", **names).stdout
