"""Other ways of asking: under another person's system message, turn by turn, and not at all."""

from typing import Any

import msgspec

from services.inference.answer.answering import answer, system_messages
from shared.domain.jobs import JobSpec
from shared.domain.rows import Answer, Facet, InstructionRow
from shared.domain.taxonomy import default_taxonomy
from shared.llm.protocol import CompletionRequest, Message, RequestRejected
from shared.stages.protocol import RowContext
from tests.support.fake_models import Answer as Said
from tests.support.fake_models import ScriptedModel, completion_of


def context(model: ScriptedModel, scorer: Any = None, **values: Any) -> RowContext:
    values = {"name": "a", "candidate": {"deployment": "d"}, **values}
    if scorer is not None:
        values["reward"] = {"deployment": "r"}
    spec = JobSpec.model_validate({"questions": {"bench": "bench_1"}, "seed": 3, "answer": [values]})
    made = RowContext("job_1", "a", spec, default_taxonomy(), model, None)
    return msgspec.structs.replace(made, scorer=scorer)


def row(*systems: str | None, turns: list[str] | None = None) -> InstructionRow:
    facets = [Facet(number, system=system) for number, system in enumerate(systems)]
    return InstructionRow("row1", "What is tea?", "s", "s", 0, facets=facets, turns=turns or [])


class Scorer:
    provider, model = "deployment", "rm"

    def __init__(self) -> None:
        self.seen: list[list[Message]] = []

    async def score(self, conversations: Any) -> list[float]:
        self.seen += [list(one) for one in conversations]
        return [float(len(one[-1]["content"])) for one in conversations]


async def test_shuffled_each_person_is_asked_under_another_ones_message_and_each_message_once() -> None:
    asked = row("zero", "one", "two", "three")
    model = ScriptedModel(lambda request: request.messages[0]["content"])
    await answer(asked, context(model, system="shuffled"))
    under = [facet.answers[0].text for facet in asked.facets]
    assert sorted(under) == ["one", "three", "two", "zero"]
    assert all(text != facet.system for text, facet in zip(under, asked.facets, strict=True))
    again = system_messages(asked, context(model, system="shuffled").answer, 3)
    assert [again[number] for number in range(4)] == under


async def test_a_single_person_has_nobody_to_be_shuffled_with() -> None:
    asked = row("zero")
    model = ScriptedModel(lambda _: "never")
    await answer(asked, context(model, system="shuffled"))
    assert not model.requests
    assert asked.facets[0].rejection is not None
    assert asked.facets[0].rejection.reason == "no_other_person"


async def test_a_conversation_is_asked_turn_by_turn_with_all_that_was_said() -> None:
    asked = row("Be brief.", turns=["And rye?", "And oat?"])
    model = ScriptedModel(lambda request: f"answer {len(request.messages)}")
    await answer(asked, context(model))
    (given,) = asked.facets[0].answers
    assert (given.text, given.later, given.best) == ("answer 2", ["answer 4", "answer 6"], True)
    assert given.tokens == 15
    assert [message["content"] for message in model.requests[-1].messages] == [
        "Be brief.", "What is tea?", "answer 2", "And rye?", "answer 4", "And oat?",
    ]  # fmt: skip
    assert len(set(model.sample_indices)) == 3


async def test_a_turn_that_fails_ends_the_conversation_and_the_answers_before_it_stand() -> None:
    def script(request: CompletionRequest) -> Said:
        return "fine" if len(request.messages) < 4 else RequestRejected("5 tokens too many")

    asked = row("Be brief.", turns=["And rye?", "And oat?"])
    await answer(asked, context(ScriptedModel(script)))
    (given,) = asked.facets[0].answers
    assert (given.text, given.later, given.finish_reason, given.fault) == ("fine", [], "prompt_too_long", "")
    refused = row("Be brief.", turns=["And rye?"])
    said = iter(["fine", completion_of("", refusal="no")])
    await answer(refused, context(ScriptedModel(lambda _: next(said))))
    assert refused.facets[0].answers[0].finish_reason == "content_refused"


async def test_answers_that_exist_are_kept_scored_and_nobody_is_asked() -> None:
    asked = row("Be brief.", None)
    asked.facets[0].answers = [Answer("short", "stop", 0, 0), Answer("much longer", "stop", 0, 0)]
    model, scorer = ScriptedModel(lambda _: "never"), Scorer()
    await answer(asked, context(model, scorer, candidate={"given": True}))
    assert not model.requests
    assert [(one.text, one.reward, one.best) for one in asked.facets[0].answers] == [
        ("short", 5.0, False),
        ("much longer", 11.0, True),
    ]
    assert scorer.seen[0][0] == {"role": "system", "content": "Be brief."}
    assert asked.facets[1].rejection is not None
    assert asked.facets[1].rejection.reason == "no_answer"


async def test_a_whole_conversation_is_scored() -> None:
    asked = row(None, turns=["And rye?"])
    scorer = Scorer()
    await answer(asked, context(ScriptedModel(lambda request: f"answer {len(request.messages)}"), scorer))
    assert [message["content"] for message in scorer.seen[0]] == ["What is tea?", "answer 1", "And rye?", "answer 3"]
