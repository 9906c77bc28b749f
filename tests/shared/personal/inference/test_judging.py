"""Readings by a judge: blind, in any order, counted where they are missing, and never taken on trust."""

from typing import Any

import numpy as np
import pytest

from services.simulator.choice_reading import answer_choice_reading
from services.simulator.judge_profile import JudgeProfile
from services.simulator.requests import BadRequest
from shared.domain.errors import InputRefused
from shared.domain.taxonomy import default_taxonomy
from shared.llm.protocol import CompletionRequest, RequestRejected
from shared.personal.inference.choices import Choice
from shared.personal.inference.inferring import infer
from shared.personal.inference.judging import (
    MOST_CHOICES,
    SHOWN_CHARACTERS,
    JudgeFailed,
    judge_columns,
    require_readable,
)
from tests.support.fake_models import Answer, ScriptedModel, block_of

TAXONOMY = default_taxonomy()
WARM, COLD = "WARM words for you.", "COLD words for you."
"""Of one length, so that length predicts nothing."""


def choices(count: int) -> list[Choice]:
    return [Choice(prompt=f"prompt {n}", chosen=f"{WARM} {n}", rejected=f"{COLD} {n}") for n in range(count)]


def respect(block: dict[str, Any], name: str, pole: str) -> tuple[int, int]:
    (found,) = [one for one in block["subdimensions"] if one["name"] == name]
    return found["subdimension"], next(one["pole"] for one in found["poles"] if one["name"] == pole)


def perceptive(request: CompletionRequest) -> dict[str, Any]:
    """Finds the warm text gentle, wherever it stands."""
    block = block_of(request)
    subdimension, pole = respect(block, "sensitivity", "gentle")
    return {
        "pairs": [
            {
                "pair": pair["pair"],
                "findings": [
                    {
                        "subdimension": subdimension,
                        "pole": pole,
                        "answer": "first" if "WARM" in pair["first"] else "second",
                    }
                ],
            }
            for pair in block["pairs"]
        ]
    }


async def test_a_pole_found_in_the_chosen_answers_becomes_evidence_for_it_and_against_its_opposite() -> None:
    judge = ScriptedModel(perceptive)
    columns, reading = await judge_columns(choices(30), TAXONOMY, judge)
    by_pole = {(c.stated.subdimension, c.stated.pole): c.values for c in columns}
    assert by_pole["sensitivity", "gentle"].tolist() == [1.0] * 30
    assert by_pole["sensitivity", "blunt"].tolist() == [-1.0] * 30
    assert not by_pole["tone", "formal"].any()
    assert (reading.read, reading.unread, reading.shortened) == (30, 0, 0)
    report = infer(choices(30), columns, judge=reading)
    assert [one.pole for one in report.proposed] == ["gentle"]
    assert report.proposed[0].evidence.source == "judge"


async def test_the_judge_does_not_learn_which_answer_was_chosen() -> None:
    judge = ScriptedModel(perceptive)
    await judge_columns(choices(60), TAXONOMY, judge)
    firsts = [pair["first"] for request in judge.requests for pair in block_of(request)["pairs"]]
    assert 15 < sum("WARM" in first for first in firsts) < 45
    assert "chosen" not in str([block_of(request) for request in judge.requests])


async def test_a_judge_who_always_names_the_first_answer_proposes_nothing() -> None:
    def biased(request: CompletionRequest) -> dict[str, Any]:
        answer = perceptive(request)
        for pair in answer["pairs"]:
            pair["findings"][0]["answer"] = "first"
        return answer

    columns, reading = await judge_columns(choices(60), TAXONOMY, ScriptedModel(biased))
    assert infer(choices(60), columns, judge=reading).proposed == []


async def test_calls_that_fail_leave_their_choices_silent_and_are_counted() -> None:
    def sometimes(request: CompletionRequest) -> Answer:
        unread = any(pair["prompt"] == "prompt 0" for pair in block_of(request)["pairs"])
        return RequestRejected("no") if unread else perceptive(request)

    columns, reading = await judge_columns(choices(40), TAXONOMY, ScriptedModel(sometimes))
    assert (reading.read, reading.unread) == (36, 4)
    gentle = next(c.values for c in columns if c.stated.pole == "gentle")
    assert np.flatnonzero(gentle == 0).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("answer", [RequestRejected("no"), {"pairs": []}, {"pairs": [{"pair": 99, "findings": []}]}])
async def test_a_judge_that_reads_too_little_is_an_error(answer: Answer) -> None:
    with pytest.raises(JudgeFailed, match="read 0 of 8"):
        await judge_columns(choices(8), TAXONOMY, ScriptedModel(lambda _: answer))


async def test_findings_outside_the_taxonomy_count_for_nothing() -> None:
    def inventive(request: CompletionRequest) -> dict[str, Any]:
        findings = [
            {"subdimension": 999, "pole": 0, "answer": "first"},
            {"subdimension": 0, "pole": 9, "answer": "first"},
        ]
        return {"pairs": [{"pair": pair["pair"], "findings": findings} for pair in block_of(request)["pairs"]]}

    columns, _ = await judge_columns(choices(8), TAXONOMY, ScriptedModel(inventive))
    assert not any(column.values.any() for column in columns)


async def test_long_texts_are_shortened_and_that_is_said() -> None:
    judge = ScriptedModel(perceptive)
    long = [Choice(prompt="p", chosen=WARM + "x" * 9000, rejected=COLD)]
    _, reading = await judge_columns(long, TAXONOMY, judge)
    assert reading.shortened == 1
    (pair,) = block_of(judge.requests[0])["pairs"]
    assert max(len(pair["first"]), len(pair["second"])) == SHOWN_CHARACTERS


def test_more_choices_than_a_judge_reads_are_refused() -> None:
    require_readable(choices(MOST_CHOICES))
    with pytest.raises(InputRefused) as refused:
        require_readable(choices(MOST_CHOICES + 1))
    assert refused.value.pointer == "/choices"


def simulated(first: str, second: str, review_error: float = 0.0) -> list[tuple[str, str, str]]:
    subdimensions = [
        {"subdimension": n, "name": s.name, "poles": [{"pole": p, "name": one.name} for p, one in enumerate(s.poles)]}
        for n, s in enumerate(one for d in TAXONOMY.dimensions for one in d.subdimensions)
    ]
    block = {"subdimensions": subdimensions, "pairs": [{"pair": 0, "prompt": "p", "first": first, "second": second}]}
    (answer,) = answer_choice_reading(block, 0, b"d", JudgeProfile(review_error=review_error))["pairs"]
    names = {one["subdimension"]: one for one in subdimensions}
    return [
        (str(names[f["subdimension"]]["name"]), str(names[f["subdimension"]]["poles"][f["pole"]]["name"]), f["answer"])  # type: ignore[index]
        for f in answer["findings"]
    ]


def test_the_simulated_judge_tells_texts_apart_by_what_is_in_them() -> None:
    long = "This is a sentence of some eight words. " * 60
    found = simulated("A short text.", long)
    assert ("conciseness", "brief", "first") in found or ("conciseness", "expansive", "second") in found
    assert simulated(long, long) == []
    turned = {(name, pole): answer for name, pole, answer in simulated(long, "A short text.")}
    assert all(turned[name, pole] != answer for name, pole, answer in found)


def test_a_simulated_judge_that_errs_names_the_other_text() -> None:
    long = "This is a sentence of some eight words. " * 60
    sound, wrong = simulated("Short.", long), simulated("Short.", long, 1.0)
    assert sound
    assert [one[:2] for one in sound] == [one[:2] for one in wrong]
    assert all(one[2] != other[2] for one, other in zip(sound, wrong, strict=True))


def test_a_block_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(BadRequest):
        answer_choice_reading({"subdimensions": [{}], "pairs": [{"first": "a"}]}, 0, b"d", JudgeProfile())
