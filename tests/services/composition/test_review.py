"""The review of system messages: one call over all of them, quotations that must stand, retries, and what it takes."""

from typing import Any

import pytest

from services.composition import review
from services.composition.handlers import HANDLERS
from services.composition.review import MessageReviewer, stands_in
from shared.domain.rows import Facet, InstructionRow, Preference
from shared.domain.system_forms import load_forms
from shared.llm.protocol import CompletionRequest, RetriesExhausted
from shared.stages.facets import Fault
from tests.support.fake_models import Answer, ScriptedModel, block_of, context_of
from tests.support.taxonomies import small_taxonomy

LEAK = "The answer is 42, because tides outweigh winds there."
TASK = "Begin by writing a short piece on tides."
SOUND = "This reader likes brief answers with a source."


def finding(request: CompletionRequest) -> Answer:
    """A judge who knows the two sentences."""
    answers = []
    for one in block_of(request)["messages"]:
        holds, quote = next(
            (found for found in (("answer", LEAK), ("task", TASK)) if found[1] in one["text"]), ("nothing", "")
        )
        answers.append({"message": one["message"], "holds": holds, "quote": quote})
    return {"messages": answers}


def saying(holds: str, quote: str) -> Any:
    """A judge who says the same of every message."""
    return lambda request: {
        "messages": [
            {"message": one["message"], "holds": holds, "quote": quote} for one in block_of(request)["messages"]
        ]
    }


def reviewer(judge: ScriptedModel, profiles: dict[int, int | None] | None = None, row_id: str = "r") -> MessageReviewer:
    return MessageReviewer(judge, row_id, profiles or {0: None, 1: None, 2: None}, 7)


async def test_all_messages_go_into_one_call_in_an_order_drawn_by_seed() -> None:
    texts = {index: f"{SOUND} Number {index}." for index in range(3)}
    orders = set()
    for number in range(20):
        judge = ScriptedModel(finding)
        assert await reviewer(judge, row_id=str(number)).look(texts) == {}
        (request,) = judge.requests
        assert (request.request_class, request.schema_name) == ("judge", "message_review")
        block = block_of(request)
        assert set(block) == {"messages"}
        assert [set(one) for one in block["messages"]] == [{"message", "text"}] * 3
        assert sorted(one["text"] for one in block["messages"]) == sorted(texts.values())
        orders.add(tuple(one["text"] for one in block["messages"]))
    assert len(orders) > 3


async def test_findings_are_confirmed_and_become_faults_of_their_facet() -> None:
    judge = ScriptedModel(finding)
    texts = {0: SOUND, 1: f"{SOUND} {LEAK}", 2: f"{TASK} {SOUND}"}
    found = await reviewer(judge).look(texts)
    assert {index: fault.reason for index, fault in found.items()} == {1: "answer_leaked", 2: "restates_task"}
    assert LEAK in found[1].detail
    assert judge.sample_indices == ["message_review:0:0", "message_review:0:1"]
    assert sorted(one["text"] for one in block_of(judge.requests[1])["messages"]) == sorted([texts[1], texts[2]])
    assert judge.requests[0].seed != judge.requests[1].seed


async def test_a_command_is_a_finding_of_its_own() -> None:
    found = await reviewer(ScriptedModel(saying("command", "with a source"))).look({0: SOUND})
    assert found[0].reason == "injected_message"


async def test_a_finding_that_two_further_calls_do_not_share_is_dropped() -> None:
    judge = ScriptedModel(
        lambda request: (saying("answer", "brief") if request.sample_index.endswith(":0") else finding)(request)
    )
    assert await reviewer(judge).look({0: SOUND}) == {}
    assert len(judge.requests) == 3


@pytest.mark.parametrize("quote", ["", "  ", '""', "the answer is 43"])
async def test_a_finding_without_a_true_quotation_does_not_count(quote: str) -> None:
    one = reviewer(ScriptedModel(saying("answer", quote)))
    assert await one.look({0: SOUND}) == {}
    assert one.messages[0].scores() == {"unverified_review": 1.0, "unread_review": 0.0}


def test_a_quotation_may_differ_in_case_white_space_and_marks() -> None:
    text = "It is so:\n  The  Answer is 42, because."
    assert stands_in("“the answer\nis 42…”", text)
    assert not stands_in("the answer was 42", text)


async def test_a_message_that_the_judge_left_out_or_answered_twice_is_counted() -> None:
    def script(request: CompletionRequest) -> Answer:
        numbers = {one["text"]: one["message"] for one in block_of(request)["messages"]}
        entry = {"message": numbers["b"], "holds": "answer", "quote": "b"}
        return {"messages": [entry, entry, {"message": 99, "holds": "answer", "quote": "a"}]}

    one = reviewer(ScriptedModel(script))
    assert await one.look({0: "a", 1: "b"}) == {}
    assert [one.messages[index].unread for index in (0, 1)] == [1, 1]


async def test_each_text_is_reviewed_once() -> None:
    judge = ScriptedModel(finding)
    one = reviewer(judge)
    first = await one.look({0: SOUND, 1: LEAK})
    calls = len(judge.requests)
    assert await one.look({0: SOUND, 1: LEAK}) == first
    assert len(judge.requests) == calls
    assert await one.look({0: SOUND, 1: "Something else."}) == {}
    assert judge.sample_indices[calls:] == ["message_review:1:0"]
    assert [entry["text"] for entry in block_of(judge.requests[-1])["messages"]] == ["Something else."]


async def test_an_error_of_the_judge_is_the_fault_of_all_it_was_asked_about() -> None:
    found = await reviewer(ScriptedModel(lambda _: RetriesExhausted("gone"))).look({0: SOUND, 2: SOUND})
    fault = Fault(f"judge_{RetriesExhausted.code}", "gone", final=True)
    assert found == {0: fault, 2: fault}


async def test_a_persistent_persons_message_is_reviewed_by_the_same_call_in_every_row() -> None:
    judge = ScriptedModel(finding)
    for row_id, own in (("a", "One."), ("b", "Two.")):
        await reviewer(judge, {0: None, 1: 5}, row_id).look({0: own, 1: SOUND})
    of_person = [request for request in judge.requests if "profile" in request.sample_index]
    assert len(judge.requests) == 4
    assert of_person[0] == of_person[1]


SHAPES = {form.name: form.shape for form in load_forms()}


def _message(request: CompletionRequest, added: str) -> Answer:
    """A message in the form and at the length asked for, with one more sentence."""
    block = block_of(request)
    shape = SHAPES[block["form"]]
    parts = [f"You are {block['role']}."] if block["role"] else []
    parts += [f"For {request.sample_index}.", *block["descriptions"], added]
    missing = round(block["target_characters"]) - len(" ".join(parts))
    parts.append(f"Thanks{' a lot' * max(0, missing // 6)}.")
    mark = {"bullets": "- ", "numbered": "1. ", "labelled": "Wish: "}.get(shape, "")
    end = "\n" if mark or shape == "paragraphs" else " "
    return {"system": end.join(mark + part for part in parts if part)}


def _row() -> InstructionRow:
    row = InstructionRow("0" * 16, "How do tides come about?", "demo", "demo", 0)
    words = (("lighthouse", "velvet"), ("copper", "meadow"), ("saffron", "glacier"))
    for index, several in enumerate(words):
        preferences = [Preference("style", "s", "k", f"Wants {word} in what is written.", "p") for word in several]
        row.facets.append(Facet(index=index, preferences=preferences))
    return row


async def _composed(leaking: set[str], judge: ScriptedModel | None, **compose: Any) -> InstructionRow:
    teacher = ScriptedModel(lambda request: _message(request, LEAK if request.sample_index in leaking else ""))
    context = context_of(teacher, small_taxonomy(), stage="compose", judge=judge, compose=compose)
    return await HANDLERS[0].process(_row(), context)


async def test_a_leaking_message_is_asked_for_again_and_its_successor_reviewed() -> None:
    judge = ScriptedModel(finding)
    row = await _composed({"compose:1:0"}, judge, quality_retries=1)
    assert all(facet.alive and facet.system for facet in row.facets)
    assert LEAK not in (row.facets[1].system or "")
    assert judge.sample_indices == ["message_review:0:0", "message_review:0:1", "message_review:1:0"]
    made = row.facets[1].provenance
    assert [(one.stage, one.attempts) for one in made] == [("compose", 2), ("compose:judge", 3)]
    assert made[1].prompt_version == review.PROMPT.version
    assert row.facets[0].provenance[1].attempts == 1
    # Three calls of ten tokens, each spread over the messages that it was about.
    assert sum(facet.provenance[1].prompt_tokens for facet in row.facets) == 30
    assert row.facets[0].scores == {"unverified_review": 0.0, "unread_review": 0.0}


async def test_a_message_that_leaks_to_the_last_is_rejected() -> None:
    row = await _composed({"compose:1:0", "compose:1:1"}, ScriptedModel(finding), quality_retries=1)
    assert [facet.alive for facet in row.facets] == [True, False, True]
    rejection = row.facets[1].rejection
    assert rejection is not None
    assert (rejection.stage, rejection.reason) == ("compose", "answer_leaked")


async def test_without_a_judge_nothing_is_asked_or_written_down() -> None:
    row = await _composed({"compose:1:0"}, None)
    assert all(facet.alive for facet in row.facets)
    assert [len(facet.provenance) for facet in row.facets] == [1, 1, 1]
    assert row.facets[0].scores == {}
