"""A tiny model's folder, made once for all tests of the engine in a process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.served_models import save_language_model


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are slowed down by threads that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_language_model(tmp_path_factory.mktemp("served") / "model")
