"""The engine as the routes use it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel

from services.inference.cpu_server.engine.engine import TransformersEngine
from services.inference.cpu_server.engine.opening import open_engine
from services.inference.cpu_server.engine.protocol import (
    EngineEnd,
    EngineFailed,
    EngineOverloaded,
    EngineRequest,
    EngineToken,
    GrammarRefused,
)
from shared.llm.servers.protocol import Grammar
from tests.support.served_models import plain_log_probabilities, plain_model, save_adapter, save_reward_model

_PROMPT = [1, 50, 60, 70]


def _request(**values: Any) -> EngineRequest:
    return EngineRequest(**{"prompt_ids": _PROMPT, "max_new_tokens": 12, **values})


async def _all(engine: TransformersEngine, request: EngineRequest) -> tuple[list[EngineToken], EngineEnd]:
    items = [item async for item in await engine.submit(request)]
    end = items.pop()
    assert isinstance(end, EngineEnd)
    return [item for item in items if isinstance(item, EngineToken)], end


async def _until(holds: Any) -> None:
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to that")


async def test_texts_of_tokens_make_the_text_and_sequences_run_together(model_folder: Path) -> None:
    engine = open_engine(model_folder, slots=4)
    await engine.start()
    requests = [
        _request(sample=number % 2 == 1, seed=number, prompt_ids=[1, *range(9, 12 + number)]) for number in range(9)
    ]
    answers = await asyncio.gather(*(_all(engine, request) for request in requests))
    for request, (tokens, end) in zip(requests, answers, strict=True):
        assert "".join(token.text for token in tokens if not token.special) == end.text
        assert end.generated_tokens == len(tokens)
        assert end.seed == (request.seed if request.sample else None)
    assert max(engine.counters.batch_sizes) == 4
    await _until(lambda: engine.counters.running == 0)
    assert (engine.counters.finished, engine.counters.waiting) == (9, 0)
    assert engine.counters.generated_tokens == sum(len(tokens) for tokens, _ in answers)
    assert engine.counters.prompt_tokens == sum(len(request.prompt_ids) for request in requests)
    await engine.close()


async def test_log_probabilities_of_prompt_and_answer_are_the_models(model_folder: Path) -> None:
    engine = open_engine(model_folder)
    await engine.start()
    sequence = await engine.submit(_request(prompt_log_probabilities=True, top_tokens=3, stop_at_eos=False))
    tokens = [item async for item in sequence if isinstance(item, EngineToken)]
    await engine.close()
    expected = plain_log_probabilities(plain_model(model_folder), [*_PROMPT, *(token.id for token in tokens)])
    assert [token.id for token in sequence.prompt_tokens] == _PROMPT
    for place, token in enumerate([*sequence.prompt_tokens, *tokens]):
        if place:
            assert token.log_probability == pytest.approx(float(expected[place - 1, token.id]), abs=1e-4)
    best = expected[len(_PROMPT) - 1].topk(3).indices.tolist()
    assert [token.id for token in tokens[0].top] == best


async def test_a_stop_sequence_ends_the_text_with_it(model_folder: Path) -> None:
    engine = open_engine(model_folder)
    await engine.start()
    _, whole = await _all(engine, _request(max_new_tokens=30, sample=True, seed=3))
    stop = whole.text[len(whole.text) // 2 :][:3]
    tokens, end = await _all(engine, _request(max_new_tokens=30, sample=True, seed=3, stop=("never there", stop)))
    await engine.close()
    assert (end.reason, end.stopped_by) == ("stop_sequence", stop)
    assert end.text == whole.text[: whole.text.index(stop) + len(stop)]
    assert "".join(token.text for token in tokens if not token.special) == end.text


async def test_leaving_early_frees_the_slot(model_folder: Path) -> None:
    engine = open_engine(model_folder, slots=1)
    await engine.start()
    long = _request(max_new_tokens=250, stop_at_eos=False)
    async for _ in (sequence := await engine.submit(long)):
        break
    await sequence.aclose()
    task = asyncio.create_task(_all(engine, long))
    await _until(lambda: engine.counters.running == 1 and engine.counters.cancelled == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _all(engine, _request())
    assert engine.counters.cancelled == 2
    assert engine.counters.generated_tokens < 200
    await engine.close()


async def test_too_many_sequences_are_refused_and_room_comes_back(model_folder: Path) -> None:
    engine = open_engine(model_folder, slots=1, maximum_waiting=1)
    await engine.start()
    first, second = [await engine.submit(_request(max_new_tokens=200, stop_at_eos=False)) for _ in range(2)]
    with pytest.raises(EngineOverloaded, match="2 sequences"):
        await engine.submit(_request())
    await first.aclose()
    third = await engine.submit(_request())
    await second.aclose()
    assert isinstance([item async for item in third][-1], EngineEnd)
    await engine.close()


async def test_closing_ends_what_runs_and_takes_nothing_more(model_folder: Path) -> None:
    engine = open_engine(model_folder, slots=1)
    await engine.start()
    running, waiting = [await engine.submit(_request(max_new_tokens=250, stop_at_eos=False)) for _ in range(2)]
    await _until(lambda: engine.counters.running == 1)
    await engine.close()
    for sequence in (running, waiting):
        with pytest.raises(EngineFailed, match="closed"):
            async for _ in sequence:
                pass
    with pytest.raises(EngineFailed):
        await engine.submit(_request())


async def test_a_fault_of_the_engine_fails_who_runs_and_serves_who_comes_next(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(model_folder)
    await engine.start()
    batch = engine._worker._batch
    assert batch is not None
    choose = batch._sampler.choose
    calls = iter([True])

    def faulty(*given: Any) -> Any:
        if next(calls, False):
            raise KeyError("a fault")
        return choose(*given)

    monkeypatch.setattr(batch._sampler, "choose", faulty)
    with pytest.raises(EngineFailed, match="KeyError"):
        await _all(engine, _request())
    await _all(engine, _request())
    await engine.close()


async def test_a_grammar_holds_for_a_whole_answer_and_a_wrong_one_is_refused(model_folder: Path) -> None:
    engine = open_engine(model_folder)
    await engine.start()
    grammar = Grammar(kind="regex", value="(yes|no), [a-c]{3}")
    free = asyncio.create_task(_all(engine, _request(sample=True, seed=2, max_new_tokens=40)))
    answers = await asyncio.gather(
        *(_all(engine, _request(sample=True, seed=seed, grammar=grammar, max_new_tokens=40)) for seed in range(4))
    )
    assert all(end.reason == "eos_token" and end.text[-5:-3] == ", " for _, end in answers)
    with pytest.raises(GrammarRefused):
        await engine.submit(_request(grammar=Grammar(kind="regex", value="(a")))
    await free
    await engine.close()


async def test_sequences_of_different_adapters_run_together_as_peft_has_each(
    model_folder: Path, tmp_path: Path
) -> None:
    folders = {name: save_adapter(tmp_path / name, model_folder, seed) for name, seed in (("one", 1), ("two", 2))}
    engine = open_engine(model_folder, adapters=folders)
    await engine.start()
    names = ["one", None, "two", "one", "two", None]
    requests = [
        _request(adapter=name, prompt_ids=[1, *range(20, 25 + place)], stop_at_eos=False, top_tokens=5)
        for place, name in enumerate(names)
    ]
    answers = await asyncio.gather(*(_all(engine, request) for request in requests))
    alone = await asyncio.gather(*(_all(engine, request) for request in requests[:1]))
    with pytest.raises(ValueError, match="one, two"):
        await engine.submit(_request(adapter="three"))
    await engine.close()
    assert engine.facts.adapters == ("one", "two")
    assert [token.id for token in alone[0][0]] == [token.id for token in answers[0][0]]
    for name, request, (tokens, _) in zip(names, requests, answers, strict=True):
        model = plain_model(model_folder)
        if name is not None:
            model = PeftModel.from_pretrained(model, str(folders[name])).eval()
        prompt = list(request.prompt_ids)
        expected = plain_log_probabilities(model, [*prompt, *(token.id for token in tokens)])
        for place, token in enumerate(tokens):
            for one in (token, *token.top):
                assert one.log_probability == pytest.approx(float(expected[len(prompt) - 1 + place, one.id]), abs=1e-4)


@pytest.mark.parametrize("architecture", ["mistral", "gemma2", "gpt2"])
async def test_scores_of_many_sequences_are_those_of_each_alone(architecture: str, tmp_path: Path) -> None:
    folder = save_reward_model(tmp_path, architecture)
    engine = open_engine(folder)
    await engine.start()
    sequences = [[(7 * place + length) % 900 + 5 for place in range(length)] for length in (9, 200, 1, 30, 31, 8)]
    # The padding token is EOS here: conversations end with it, and it is not to be taken for padding.
    sequences = [[*sequence, 2] for sequence in sequences]
    scores = await engine.score(sequences)
    assert await engine.score([]) == []
    with pytest.raises(ValueError, match="reward model"):
        await engine.submit(_request())
    with pytest.raises(ValueError, match="more than the 256"):
        await engine.score([[5] * 257])
    with pytest.raises(EngineFailed):
        await engine.score([[5000]])
    assert await engine.score(sequences[:1]) == pytest.approx(scores[:1], abs=1e-4)
    await engine.close()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for sequence, score in zip(sequences, scores, strict=True):
        with torch.inference_mode():
            states = model.base_model(input_ids=torch.tensor([sequence])).last_hidden_state
            assert score == pytest.approx(float(model.score(states[0, -1])), abs=1e-4)


async def test_requests_that_cannot_be_run_are_refused(model_folder: Path) -> None:
    engine = open_engine(model_folder)
    for values, message in (
        ({"prompt_ids": []}, "no token"),
        ({"max_new_tokens": 0}, "at least 1"),
        ({"max_new_tokens": 253}, "256"),
    ):
        with pytest.raises(ValueError, match=message):
            await engine.submit(_request(**values))
    with pytest.raises(ValueError, match="language model"):
        await engine.score([[1]])
