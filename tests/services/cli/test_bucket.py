"""Making the bucket of a deployment, on a real S3 server."""

import pytest

from services.cli.bucket import ensure_bucket
from shared.domain.errors import MultifacetError
from shared.settings import Settings
from tests.support.servers import free_port


async def test_the_bucket_is_made_once(s3_settings: Settings) -> None:
    assert await ensure_bucket(s3_settings, 30) is True
    assert await ensure_bucket(s3_settings, 30) is False


async def test_a_store_that_does_not_answer_is_named_with_what_to_check(s3_settings: Settings) -> None:
    absent = s3_settings.model_copy(update={"s3_endpoint": f"127.0.0.1:{free_port()}"})
    with pytest.raises(MultifacetError, match="MULTIFACET_S3_ENDPOINT"):
        await ensure_bucket(absent, 0.5)


async def test_a_directory_store_has_no_bucket() -> None:
    with pytest.raises(MultifacetError, match="MULTIFACET_ARTIFACT_STORE"):
        await ensure_bucket(Settings(artifact_store="directory"), 0.5)
