"""A backup holds the whole system as it was at one moment; a damaged one is refused before anything is touched."""

import asyncio
import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import orjson
import pytest
from alembic import command

from services.cli.embedded.postgres import EmbeddedPostgres
from shared.artifacts import open_store
from shared.artifacts.directory import DirectoryStore
from shared.artifacts.s3 import S3Store
from shared.metadata.engine import migration_config
from shared.metadata.repositories import whole_database
from shared.operations.backup import back_up
from shared.operations.backup_format import MANIFEST, BackupRefused, file_sha256, read_manifest, read_objects, verify
from shared.operations.restore import restore
from shared.settings import Settings
from tests.shared.operations.systems import PROJECT, SmallSystem, new_database, small_system


@pytest.fixture(scope="module")
def saved(
    postgres_server: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SmallSystem, Path]:
    """A filled system and its backup, which tests take a copy of."""
    folder = tmp_path_factory.mktemp("saved")
    filled = small_system(postgres_server, migrated_template, folder / "objects")

    async def fill() -> None:
        await filled.fill()
        await back_up(filled.url, filled.store, folder / "backup")

    asyncio.run(fill())
    return filled, folder / "backup"


@pytest.fixture(scope="module")
def untouched_url(postgres_server: EmbeddedPostgres) -> str:
    """URL of an empty database for tests that leave it so."""
    return new_database(postgres_server)


@pytest.fixture
def untouched(untouched_url: str, tmp_path: Path) -> SmallSystem:
    return SmallSystem(untouched_url, DirectoryStore(tmp_path / "untouched"))


async def test_nothing_is_read_again_while_the_snapshot_is_open(
    saved: tuple[SmallSystem, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ends a transaction that says nothing for long, and a large table's file takes long to read."""
    filled, _ = saved
    states: set[object] = set()

    def watched(path: Path) -> str:
        states.update(filled.execute("SELECT state FROM pg_stat_activity WHERE application_name = 'multifacet-backup'"))
        return file_sha256(path)

    monkeypatch.setattr("shared.operations.backup.file_sha256", watched)
    await back_up(filled.url, filled.store, tmp_path / "watched")
    assert states == {("idle",)}
    verify(tmp_path / "watched")


@pytest.fixture
def backup(saved: tuple[SmallSystem, Path], tmp_path: Path) -> Path:
    shutil.copytree(saved[1], tmp_path / "backup")
    return tmp_path / "backup"


@pytest.fixture
def system(postgres_server: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> SmallSystem:
    return small_system(postgres_server, migrated_template, tmp_path / "objects")


@pytest.fixture
def fresh(postgres_server: EmbeddedPostgres, tmp_path: Path) -> SmallSystem:
    return small_system(postgres_server, None, tmp_path / "restored")


async def test_every_row_and_every_object_comes_back(
    saved: tuple[SmallSystem, Path], fresh: SmallSystem, backup: Path
) -> None:
    made = read_manifest(backup)
    assert (made.objects, made.lost) == (4, ())
    assert verify(backup)[0] == made == await restore(fresh.url, fresh.store, backup)
    assert fresh.dump() == saved[0].dump()
    assert await fresh.content() == await saved[0].content()


async def test_which_processes_there_were_does_not_come_back(
    system: SmallSystem, fresh: SmallSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.execute(
        "INSERT INTO worker_group (name, roles, minimum, maximum, desired, running, failures, detail) "
        "VALUES ('curation', '{curation}', 0, 1, 1, 0, 0, '')"
    )
    await back_up(system.url, system.store, tmp_path / "backup")
    limits: set[object] = set()
    analyze = whole_database.analyze

    async def watched(connection: whole_database.Connection) -> None:
        found = await connection.execute("SELECT current_setting('idle_in_transaction_session_timeout')")
        limits.update(await found.fetchall())
        await analyze(connection)

    monkeypatch.setattr(whole_database, "analyze", watched)
    await restore(fresh.url, fresh.store, tmp_path / "backup")
    assert fresh.execute("SELECT count(*) FROM worker_group") == [(0,)]
    assert limits == {("1h",)}, "loading a large table takes longer than an answer may take elsewhere"


async def test_numbers_go_on_where_they_were(system: SmallSystem, fresh: SmallSystem, tmp_path: Path) -> None:
    system.execute("SELECT nextval(pg_get_serial_sequence('attempt', 'id')) FROM generate_series(1, 41)")
    await back_up(system.url, system.store, tmp_path / "backup")
    await restore(fresh.url, fresh.store, tmp_path / "backup")
    assert fresh.execute("SELECT nextval(pg_get_serial_sequence('attempt', 'id'))") == [(42,)]
    assert fresh.execute("SELECT nextval(pg_get_serial_sequence('outbox', 'id'))") == [(1,)]


async def test_a_backup_moves_a_system_from_a_folder_to_an_object_store(
    saved: tuple[SmallSystem, Path], fresh: SmallSystem, s3_settings: Settings, backup: Path, tmp_path: Path
) -> None:
    bucket = open_store(s3_settings)
    assert isinstance(bucket, S3Store)
    await bucket.ensure_bucket()
    await restore(fresh.url, bucket, backup)
    moved = SmallSystem(fresh.url, bucket)
    assert await moved.content() == await saved[0].content()

    await back_up(moved.url, bucket, tmp_path / "again")
    assert read_objects(tmp_path / "again") == read_objects(backup)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _an_object(folder: Path) -> Path:
    return next((folder / "objects").rglob("part-*.parquet"))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "an object with a flipped bit": (lambda folder: _flip(_an_object(folder)), "part-00000-1.parquet was changed"),
    "a truncated object": (lambda folder: _an_object(folder).write_bytes(b"ro"), "was changed"),
    "an object that is missing": (lambda folder: _an_object(folder).unlink(), "part-00000-1.parquet is missing"),
    "a table with a flipped bit": (lambda folder: _flip(folder / "database" / "job.gz"), "job.gz was changed"),
    "a table that is missing": (lambda folder: (folder / "database" / "step.gz").unlink(), "step.gz is missing"),
    "a list of objects that was cut": (
        lambda folder: (folder / "objects.jsonl").write_bytes((folder / "objects.jsonl").read_bytes()[:200]),
        "objects.jsonl was changed",
    ),
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), "not finished"),
    "half a manifest": (
        lambda folder: (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes()[:100]),
        "cannot be read",
    ),
    "a manifest of another format": (
        lambda folder: (folder / MANIFEST).write_bytes(
            (folder / MANIFEST).read_bytes().replace(b"backup/1", b"backup/9")
        ),
        "is of the format",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_backup_is_refused_and_nothing_is_touched(
    untouched: SmallSystem, backup: Path, damage: str
) -> None:
    harm, told = DAMAGES[damage]
    harm(backup)
    with pytest.raises(BackupRefused, match=told):
        await restore(untouched.url, untouched.store, backup)
    assert untouched.dump() == {}
    assert await untouched.content() == {}


async def test_a_system_that_was_used_is_not_written_over(
    saved: tuple[SmallSystem, Path], backup: Path, tmp_path: Path
) -> None:
    used = saved[0]
    before = used.dump()
    with pytest.raises(BackupRefused, match=r"the database is not empty: there are rows in .*job"):
        await restore(used.url, DirectoryStore(tmp_path / "elsewhere"), backup)
    assert used.dump() == before


async def test_a_store_with_other_objects_is_not_written_over(untouched: SmallSystem, backup: Path) -> None:
    await untouched.store.put_bytes("artifacts/other/job_x/00-curate/part-00000-1.parquet", b"someone's")
    with pytest.raises(BackupRefused, match="the store is not empty: it holds artifacts/other/job_x"):
        await restore(untouched.url, untouched.store, backup)
    assert untouched.dump() == {}


async def test_a_restore_that_was_cut_off_is_run_again(
    saved: tuple[SmallSystem, Path], fresh: SmallSystem, backup: Path, tmp_path: Path
) -> None:
    shutil.copytree(backup / "objects", tmp_path / "restored", dirs_exist_ok=True)
    await restore(fresh.url, fresh.store, backup)
    assert fresh.dump() == saved[0].dump()


async def test_a_system_that_was_set_up_and_never_used_is_filled(
    saved: tuple[SmallSystem, Path],
    postgres_server: EmbeddedPostgres,
    migrated_template: str,
    backup: Path,
    tmp_path: Path,
) -> None:
    target = small_system(postgres_server, migrated_template, tmp_path / "target")
    target.execute("INSERT INTO project (id) VALUES ('default')")
    await restore(target.url, target.store, backup)
    assert target.dump() == saved[0].dump()


async def test_a_database_that_processes_of_ours_use_is_left_alone(untouched: SmallSystem, backup: Path) -> None:
    async with await whole_database.connect(untouched.url, "multifacet-controller"):
        with pytest.raises(BackupRefused, match=r"multifacet-controller \(1\); stop api, controller and workers first"):
            await restore(untouched.url, untouched.store, backup)


async def test_a_backup_of_an_earlier_schema_is_brought_to_this_one(
    postgres_server: EmbeddedPostgres, migrated_template: str, saved: tuple[SmallSystem, Path], tmp_path: Path
) -> None:
    earlier = small_system(postgres_server, None, tmp_path / "earlier")
    command.upgrade(migration_config(earlier.url), "0004")
    earlier.execute("INSERT INTO project (id) VALUES ('kept')")
    stored = await earlier.store.put_bytes("artifacts/kept/job_x/00-curate/part-00000-1.parquet", b"rows")
    earlier.execute(
        "INSERT INTO artifact (id, project_id, job_id, stage, name, key, kind, media_type, sha256, size, details, lineage) "
        f"VALUES ('art_x', 'kept', 'job_x', 'curate', 'p', '{stored.key}', 'table', 'x/y', '{stored.sha256}', 4, '{{}}', '{{}}')"
    )
    made = await back_up(earlier.url, earlier.store, tmp_path / "backup")
    assert (made.schema_revision, made.objects) == ("0004", 1)
    # Into a database that this version has set up already, too.
    for number, template in enumerate((None, migrated_template)):
        target = small_system(postgres_server, template, tmp_path / f"target-{number}")
        await restore(target.url, target.store, tmp_path / "backup")
        assert target.execute("SELECT version_num FROM alembic_version") == saved[0].execute(
            "SELECT version_num FROM alembic_version"
        )
        assert target.execute("SELECT id, removed_at FROM artifact") == [("art_x", None)]


async def test_what_a_newer_version_made_is_refused(
    system: SmallSystem, untouched: SmallSystem, backup: Path, tmp_path: Path
) -> None:
    manifest = read_manifest(backup)
    newer = msgspec.structs.replace(manifest, schema_revision="9999")
    (backup / MANIFEST).write_bytes(msgspec.json.encode(newer))
    with pytest.raises(BackupRefused, match="'9999' is not known to this version"):
        await restore(untouched.url, untouched.store, backup)
    system.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(BackupRefused, match="'9999' is not known to this version"):
        await back_up(system.url, system.store, tmp_path / "second")


async def test_an_index_that_was_written_again_since_the_snapshot_is_recorded_as_it_is(
    system: SmallSystem, fresh: SmallSystem, tmp_path: Path
) -> None:
    job_id = await system.fill()
    key = f"artifacts/{PROJECT}/{job_id}/index.json"
    stored = await system.store.put_bytes(key, b'{"newer": true}')
    assert (await back_up(system.url, system.store, tmp_path / "backup")).lost == ()
    await restore(fresh.url, fresh.store, tmp_path / "backup")
    assert await fresh.store.get_bytes(key) == b'{"newer": true}'
    assert fresh.execute(f"SELECT sha256, size FROM artifact WHERE key = '{key}'") == [(stored.sha256, stored.size)]


async def test_what_the_store_had_lost_is_told_and_the_rest_is_saved(
    system: SmallSystem, fresh: SmallSystem, tmp_path: Path
) -> None:
    job_id = await system.fill()
    folder = f"artifacts/{PROJECT}/{job_id}"
    await system.store.put_bytes(f"{folder}/00-curate/part-00000-1.parquet", b"other bytes")
    await system.store.delete(f"{folder}/empty-2")
    made = await back_up(system.url, system.store, tmp_path / "backup")
    told = {lost.key.rsplit("/", 1)[1]: lost.why for lost in made.lost}
    assert "was changed" in told["part-00000-1.parquet"]
    assert "there is no object" in told["empty-2"]
    await restore(fresh.url, fresh.store, tmp_path / "backup")
    assert fresh.dump() == system.dump()


async def test_complete_checkpoints_come_along_and_no_others(
    system: SmallSystem, fresh: SmallSystem, tmp_path: Path
) -> None:
    prefix = f"checkpoints/{PROJECT}/job_x/sft"
    whole, torn, damaged = (f"{prefix}/step-{step:08d}-1" for step in (10, 20, 30))
    for folder in (whole, torn, damaged):
        stored = await system.store.put_bytes(f"{folder}/nested/optimizer.pt", b"state")
        manifest = {"files": [{"name": "nested/optimizer.pt", "sha256": stored.sha256, "size": 5}]}
        if folder != torn:
            await system.store.put_bytes(f"{folder}/manifest.json", orjson.dumps(manifest))
    await system.store.put_bytes(f"{damaged}/nested/optimizer.pt", b"stote")
    made = await back_up(system.url, system.store, tmp_path / "backup")
    assert [(lost.key, "not as its manifest says" in lost.why) for lost in made.lost] == [(damaged, True)]
    await restore(fresh.url, fresh.store, tmp_path / "backup")
    assert set(await fresh.content()) == {f"{whole}/nested/optimizer.pt", f"{whole}/manifest.json"}


async def test_rows_written_while_a_backup_is_made_are_not_half_in_it(system: SmallSystem, tmp_path: Path) -> None:
    await system.fill()
    stop = asyncio.Event()

    async def write() -> int:
        written = 0
        async with await whole_database.connect(system.url) as connection:
            while not stop.is_set():
                async with connection.transaction():
                    await connection.execute("INSERT INTO project (id) VALUES (%s)", (f"p{written}",))
                    await connection.execute(
                        "INSERT INTO usage (job_id, stage, provider, model, request_class, project_id) "
                        "VALUES (%s, 's', 'p', 'm', 'c', %s)",
                        (f"j{written}", f"p{written}"),
                    )
                written += 1
        return written

    writer = asyncio.create_task(write())
    made = await back_up(system.url, system.store, tmp_path / "backup")
    stop.set()
    assert await writer > 0
    rows = {table.name: table.rows for table in made.tables}
    assert rows["project"] == rows["usage"] + 1  # the job's own project


async def test_a_folder_that_holds_something_is_not_written_into(system: SmallSystem, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "mine").write_text("mine")
    with pytest.raises(BackupRefused, match="holds something already"):
        await back_up(system.url, system.store, tmp_path / "backup")
    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["mine"]


async def test_a_database_without_tables_has_nothing_to_back_up(
    postgres_server: EmbeddedPostgres, system: SmallSystem, tmp_path: Path
) -> None:
    with pytest.raises(BackupRefused, match="has no tables"):
        await back_up(new_database(postgres_server), system.store, tmp_path / "backup")


async def test_no_secret_of_the_environment_is_in_a_backup(
    system: SmallSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = "planted-9d1c7a52"
    for name in ("MULTIFACET_S3_SECRET_KEY", "MULTIFACET_LAUNCHER_TOKEN", "MULTIFACET_BOOTSTRAP_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, planted)
    await system.fill()
    await back_up(system.url, system.store, tmp_path / "backup")
    files = [path for path in (tmp_path / "backup").rglob("*") if path.is_file()]
    texts = [gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in files]
    assert len(texts) > 20
    assert not any(planted.encode() in text for text in texts)
