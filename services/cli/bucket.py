"""Preparing the object store of a deployment."""

import asyncio
import time

import urllib3
from minio.error import S3Error

from shared.artifacts import open_store
from shared.artifacts.s3 import S3Store
from shared.domain.errors import MultifacetError
from shared.settings import Settings

_PAUSE_SECONDS = 1.0


async def ensure_bucket(settings: Settings, wait_seconds: float) -> bool:
    """Make the bucket where it is missing; returns whether it was made. Asks again until the store answers, because the
    store's own image holds no tool for a health check. Raises MultifacetError after `wait_seconds`."""
    store = open_store(settings)
    if not isinstance(store, S3Store):
        raise MultifacetError("the artifact store is a directory: set MULTIFACET_ARTIFACT_STORE=s3 to make a bucket")
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return await store.ensure_bucket()
        except (S3Error, urllib3.exceptions.HTTPError) as error:
            if time.monotonic() > deadline:
                raise MultifacetError(
                    f"the object store at {settings.s3_endpoint} did not let us make bucket {settings.s3_bucket!r} within "
                    f"{wait_seconds:g} s ({type(error).__name__}: {error}); check MULTIFACET_S3_ENDPOINT and the keys"
                ) from error
            await asyncio.sleep(_PAUSE_SECONDS)
