"""Settings that cannot work are refused where they are read."""

import pytest
from pydantic import ValidationError

from shared.settings import Settings


@pytest.mark.parametrize("endpoint", ["http://minio:9000", "https://minio", "minio:9000/bucket"])
def test_an_s3_endpoint_is_host_and_port_alone(endpoint: str) -> None:
    with pytest.raises(ValidationError, match="give host:port alone"):
        Settings(s3_endpoint=endpoint)
    assert Settings(s3_endpoint="minio:9000").s3_endpoint == "minio:9000"
