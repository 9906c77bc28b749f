"""Servers around scripted engines, one of each kind per test module; every test finds the engine as it was at first."""

from collections.abc import Iterator
from typing import Any

import pytest

from shared.chat_template import template_text
from tests.support.model_server import RunningServer, serving
from tests.support.scripted_engine import ANSWER, ScriptedEngine
from tests.support.tiny_models import tiny_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    made = tiny_tokenizer()
    made.chat_template = template_text()
    return made


@pytest.fixture(scope="module")
def language_server(tokenizer: Any) -> Iterator[RunningServer]:
    with serving(ScriptedEngine(tokenizer)) as server:
        yield server


@pytest.fixture
def server(language_server: RunningServer) -> RunningServer:
    engine = language_server.engine
    engine.answer = ANSWER
    engine.fail_after = engine.hang_after = engine.vanish_after = None
    engine.full = False
    engine.requests.clear()
    engine.closed_early.clear()
    return language_server


@pytest.fixture(scope="module")
def reward_server(tokenizer: Any) -> Iterator[RunningServer]:
    with serving(ScriptedEngine(tokenizer, is_reward_model=True)) as server:
        yield server


@pytest.fixture(scope="module")
def adapter_server(tokenizer: Any) -> Iterator[RunningServer]:
    with serving(ScriptedEngine(tokenizer, adapters=("frank", "kind"))) as server:
        yield server
