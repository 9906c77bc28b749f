"""Fixtures over real servers, started once per test process and only when a test asks for them."""

import logging
import os
from collections.abc import Iterator
from uuid import uuid4

import pytest
from hypothesis import settings as hypothesis_settings
from pydantic import SecretStr

from services.cli.embedded.postgres import EmbeddedPostgres
from services.cli.embedded.redis import EmbeddedRedis
from shared.metadata.engine import create_tables
from shared.settings import Settings
from tests.support.servers import running_postgres, running_redis, running_s3

# A busy machine is no failure.
hypothesis_settings.register_profile("no-deadline", deadline=None)
hypothesis_settings.load_profile("no-deadline")

for _name in [name for name in os.environ if name.endswith("_API_KEY")]:
    del os.environ[_name]  # no test may reach a real provider


@pytest.fixture(autouse=True)
def logging_of_its_own() -> Iterator[None]:
    """What a test sets up of logging ends with it: a handler on a captured stream fails whoever logs once that is closed."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        if type(handler) is logging.StreamHandler and handler not in before:
            root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgres_server: EmbeddedPostgres) -> str:
    """Name of a database that the migrations made, to be copied."""
    name = "migrated"
    postgres_server.create_database(name)
    create_tables(postgres_server.url(name))
    return name


@pytest.fixture(scope="module")
def postgres_url(postgres_server: EmbeddedPostgres, migrated_template: str) -> str:
    """SQLAlchemy URL of a fresh database that holds all tables, one per test module."""
    name = f"test_{uuid4().hex[:12]}"
    postgres_server.create_database(name, migrated_template)
    return postgres_server.url(name)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    with running_redis() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    return redis_server.url


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with running_s3() as endpoint:
        yield endpoint


@pytest.fixture
def s3_settings(s3_endpoint: str) -> Settings:
    """Settings of a store in a bucket of its own (not made yet: `S3Store.ensure_bucket`)."""
    return Settings(
        artifact_store="s3",
        s3_endpoint=s3_endpoint,
        s3_access_key="testing-key",
        s3_secret_key=SecretStr("testing-secret"),
        s3_bucket=f"test-{uuid4().hex[:12]}",
    )
