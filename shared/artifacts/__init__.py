"""Immutable bytes: MinIO and directory stores behind one protocol, the layout of keys, Parquet tables of rows."""

from shared.artifacts.protocol import ArtifactStore
from shared.settings import Settings


def open_store(settings: Settings) -> ArtifactStore:
    """The store that the settings name. Nothing is contacted yet: call `check` for that."""
    if settings.artifact_store == "directory":
        from shared.artifacts.directory import DirectoryStore

        return DirectoryStore(settings.artifact_directory)
    from shared.artifacts.s3 import S3Store

    return S3Store(
        settings.s3_endpoint,
        settings.s3_access_key,
        settings.s3_secret_key.get_secret_value(),
        settings.s3_bucket,
        secure=settings.s3_secure,
        timeout_seconds=settings.s3_timeout_seconds,
    )
