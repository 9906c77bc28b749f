"""Providers as data, and prices as integers."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.errors import InputRefused, StepFailed
from shared.domain.jobs import ModelChoice
from shared.llm.prices import cost_micro_usd
from shared.llm.providers import Providers, load_providers

SHIPPED = load_providers(None)


def _choice(provider: str, model: str) -> ModelChoice:
    return ModelChoice(provider=provider, model=model)


def test_the_shipped_file_has_the_simulator_and_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTIFACET_SIMULATOR_URL", "http://127.0.0.1:1234/v1/")
    simulator = SHIPPED.require(_choice("simulator", "simulator-large"), "/teacher")
    assert simulator.simulator
    assert simulator.chat_url() == "http://127.0.0.1:1234/v1/chat/completions"
    assert simulator.api_key() is None
    openai = SHIPPED.require(_choice("openai", "gpt-4o-mini"), "/teacher")
    assert not openai.simulator
    assert openai.priced


@pytest.mark.parametrize(
    ("choice", "pointer", "told"),
    [(("nobody", "m"), "/judge/provider", "simulator"), (("simulator", "m"), "/judge/model", "simulator-small")],
)
def test_an_unknown_choice_is_refused_with_pointer_and_what_there_is(
    choice: tuple[str, str], pointer: str, told: str
) -> None:
    with pytest.raises(InputRefused, match=told) as refused:
        SHIPPED.require(_choice(*choice), "/judge")
    assert refused.value.pointer == pointer


def test_a_missing_key_or_address_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(StepFailed, match="OPENAI_API_KEY") as failed:
        SHIPPED.require(_choice("openai", "gpt-4o"), "/teacher").api_key()
    assert failed.value.code == "authentication_failed"
    lost = Providers.model_validate({"providers": {"p": {"base_url": "${NOT_SET_HERE}", "models": {"m": None}}}})
    with pytest.raises(StepFailed, match="NOT_SET_HERE"):
        lost.require(_choice("p", "m"), "/teacher").chat_url()


def test_a_star_stands_for_every_model_at_an_unknown_price() -> None:
    anything = Providers.model_validate({"providers": {"p": {"base_url": "http://h", "models": {"*": None}}}})
    found = anything.require(_choice("p", "org/model"), "/teacher")
    assert found.model == "org/model"
    assert not found.priced
    assert cost_micro_usd(found, 10, 10) is None


@pytest.mark.parametrize(
    "text",
    ["providers: [", "providers: {}", "providers: {p: {base_url: u, models: {m: null}, url: x}}", "just text"],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "providers.yaml"
    path.write_text(text)
    with pytest.raises(InputRefused, match=r"providers\.yaml"):
        load_providers(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="cannot read"):
        load_providers(tmp_path / "none.yaml")


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_costs_are_whole_microdollars_never_below_the_exact_cost(prompt: int, completion: int) -> None:
    model = SHIPPED.require(_choice("openai", "gpt-4o-mini"), "/teacher")
    cost = cost_micro_usd(model, prompt, completion)
    assert isinstance(cost, int)
    exact_times_100 = prompt * 15 + completion * 60
    assert exact_times_100 <= cost * 100 < exact_times_100 + 100


def test_a_dollar_per_million_tokens_is_a_microdollar_per_token() -> None:
    model = SHIPPED.require(_choice("simulator", "simulator-large"), "/teacher")
    assert cost_micro_usd(model, 100, 10) == 130
