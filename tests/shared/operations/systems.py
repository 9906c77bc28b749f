"""Small systems to be backed up: a database of the migrations and a directory store, filled by hand."""

from pathlib import Path
from uuid import uuid4

import psycopg

from services.cli.embedded.postgres import EmbeddedPostgres
from shared.artifacts.directory import DirectoryStore
from shared.artifacts.protocol import ArtifactStore
from shared.domain.identifiers import new_id
from shared.metadata.engine import connection_string, create_engine, session_factory
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.files import FileRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.tables import UploadedFile
from tests.support.control_plane import toy_spec, toy_taxonomy

PROJECT = "saved"


class SmallSystem:
    """A database and a store."""

    def __init__(self, url: str, store: ArtifactStore) -> None:
        self.url = url
        self.store = store

    async def fill(self) -> str:
        """A job with three artifacts, an upload, and rows with all that text can hold; the job's id."""
        engine = create_engine(self.url, pool_size=2)
        sessions = session_factory(engine)
        async with sessions() as session, session.begin():
            spec = toy_spec("tab\tnewline\nbackslash\\ quote' \u00e4\U0001f600 \\N")
            job, _ = await JobRepository(session).submit(PROJECT, spec, toy_taxonomy(), teacher_is_simulator=True)
        folder = f"artifacts/{PROJECT}/{job.id}"
        for name, content in (("00-curate/part-00000-1.parquet", b"rows"), ("index.json", b"{}"), ("empty-2", b"")):
            stored = await self.store.put_bytes(f"{folder}/{name}", content)
            async with sessions() as session, session.begin():
                await ArtifactRepository(session).add(
                    project_id=PROJECT, job_id=job.id, stage="curate", name=name, key=stored.key, kind="file",
                    media_type="text/plain", sha256=stored.sha256, size=stored.size,
                )  # fmt: skip
        file_id = new_id("file")
        stored = await self.store.put_bytes(f"uploads/{PROJECT}/{file_id}/rows.jsonl", b"an upload")
        row = UploadedFile(
            id=file_id, project_id=PROJECT, name="rows.jsonl", key=stored.key, sha256=stored.sha256, size=stored.size
        )
        async with sessions() as session, session.begin():
            await FileRepository(session).add(row)
        self.execute(
            "INSERT INTO cached_completion (key, project_id, provider, model, body) "
            "VALUES ('\\x0102ff', 'p', 's', 'm', '\\x00ff0a')"
        )
        await engine.dispose()
        return job.id

    async def content(self) -> dict[str, bytes]:
        """Every object of the store."""
        return {info.key: await self.store.get_bytes(info.key) async for info in self.store.list_objects("")}

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(connection_string(self.url), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def dump(self) -> dict[str, list[str]]:
        """Every row of every table as text, sorted."""
        names = self.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        return {
            str(name): sorted(str(row) for (row,) in self.execute(f'SELECT "{name}"::text FROM "{name}"'))
            for (name,) in names
        }


def new_database(server: EmbeddedPostgres, template: str | None = None) -> str:
    """URL of a fresh database, empty or a copy of `template`."""
    name = f"system_{uuid4().hex[:12]}"
    server.create_database(name, *([template] if template else []))
    return server.url(name)


def small_system(server: EmbeddedPostgres, template: str | None, folder: Path) -> SmallSystem:
    return SmallSystem(new_database(server, template), DirectoryStore(folder))
