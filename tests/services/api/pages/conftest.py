"""An api for a browser: one process per test module, since starting one takes seconds."""

from collections.abc import Iterator

import pytest

from shared.settings import Settings
from tests.services.api.support import api_settings, running_server


@pytest.fixture(scope="module")
def browser_settings(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return api_settings(postgres_url, tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="module")
def browser_api(browser_settings: Settings) -> Iterator[str]:
    """The address of an api that runs with `browser_settings`."""
    with running_server(browser_settings) as url:
        yield url
