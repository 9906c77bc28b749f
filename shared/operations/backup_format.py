"""What a backup looks like on disk: a folder of plain files, each with its sha256 on record.

backup.json            written last: without it the backup is unfinished
objects.jsonl          every object of the store that is in the backup: key, sha256, size, media type
database/<table>.gz    rows in the text format of PostgreSQL's COPY
objects/<key>          bytes, below the same keys as in the store
"""

from hashlib import sha256
from pathlib import Path

import msgspec

from shared.domain.errors import MultifacetError
from shared.metadata.engine import migration_config
from shared.metadata.repositories.whole_database import NamedObject

FORMAT = "multifacet-backup/1"
MANIFEST = "backup.json"
OBJECTS = "objects.jsonl"

_CHUNK_BYTES = 1 << 20
_FAULTS_TOLD = 5


class BackupRefused(MultifacetError):
    """A backup that is not there, not finished, damaged, or of another version; or a place where none can be put."""

    code = "backup_refused"


class TableFile(msgspec.Struct, frozen=True):
    """One table; `sha256` is of the file."""

    name: str
    columns: tuple[str, ...]
    rows: int
    sha256: str

    @property
    def file(self) -> str:
        return f"database/{self.name}.gz"


class Lost(msgspec.Struct, frozen=True):
    """An object that a record names and the store did not have as recorded."""

    key: str
    why: str


class BackupManifest(msgspec.Struct, frozen=True, kw_only=True):
    """`backup.json`. `taken_at` is the moment that the backup shows, by the database's clock."""

    format: str = FORMAT
    taken_at: str
    schema_revision: str
    tables: tuple[TableFile, ...]
    sequences: dict[str, int]
    objects: int
    objects_sha256: str
    """Of the file `objects.jsonl`."""
    bytes: int
    """Of all objects."""
    lost: tuple[Lost, ...] = ()

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)


def require_known_revision(database_url: str, revision: str) -> None:
    """Raises BackupRefused for the schema of a version that this one does not know: what it holds would not be understood."""
    from alembic.script import ScriptDirectory  # only backups need it, and commands start often
    from alembic.util import CommandError

    try:
        ScriptDirectory.from_config(migration_config(database_url)).get_revision(revision)
    except CommandError as error:
        raise BackupRefused(
            f"the schema {revision!r} is not known to this version: a newer one made it; use that version or a later one"
        ) from error


def file_sha256(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def object_path(folder: Path, key: str) -> Path:
    """Where an object lies in a backup. Raises BackupRefused for a key that leads out of it."""
    root = (folder / "objects").resolve()
    path = (root / key).resolve()
    if not path.is_relative_to(root) or path == root:
        raise BackupRefused(f"the backup names the object {key!r}, which would lie outside of it; it is not used")
    return path


def read_manifest(folder: Path) -> BackupManifest:
    """Raises BackupRefused where there is no finished backup of this format."""
    path = folder / MANIFEST
    if not path.is_file():
        raise BackupRefused(
            f"{folder} holds no {MANIFEST}: there is no backup there, or it was not finished; name another"
        )
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=BackupManifest)
    except msgspec.MsgspecError as error:
        raise BackupRefused(f"{path} cannot be read ({error}); the backup is damaged, name another") from error
    if manifest.format != FORMAT:
        raise BackupRefused(
            f"{path} is of the format {manifest.format!r} and this version reads {FORMAT!r}; use the version that made it"
        )
    return manifest


def read_objects(folder: Path) -> list[NamedObject]:
    return msgspec.json.Decoder(NamedObject).decode_lines((folder / OBJECTS).read_bytes())


def verify(folder: Path) -> tuple[BackupManifest, list[NamedObject]]:
    """Hold every file of a backup against its sha256. Raises BackupRefused, naming what is damaged."""
    manifest = read_manifest(folder)
    faults: list[str] = []
    expected = {OBJECTS: manifest.objects_sha256, **{table.file: table.sha256 for table in manifest.tables}}
    for name, digest in expected.items():
        _check(folder / name, name, digest, faults)
    if faults:
        raise _damaged(folder, faults)
    objects = read_objects(folder)
    for item in objects:
        _check(object_path(folder, item.key), f"objects/{item.key}", item.sha256, faults)
    if len(objects) != manifest.objects:
        faults.append(f"{OBJECTS} names {len(objects)} objects instead of {manifest.objects}")
    if faults:
        raise _damaged(folder, faults)
    return manifest, objects


def _check(path: Path, name: str, digest: str, faults: list[str]) -> None:
    if not path.is_file():
        faults.append(f"{name} is missing")
    elif file_sha256(path) != digest:
        faults.append(f"{name} was changed")


def _damaged(folder: Path, faults: list[str]) -> BackupRefused:
    told = "; ".join(faults[:_FAULTS_TOLD]) + (
        f"; and {len(faults) - _FAULTS_TOLD} more" if len(faults) > _FAULTS_TOLD else ""
    )
    return BackupRefused(f"the backup {folder} is damaged: {told}. Nothing was restored; name another backup")
