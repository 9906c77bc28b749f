"""The compose stage over a scripted teacher: what goes out, retries, siblings, rejections, provenance."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from services.composition.handlers import HANDLERS, PROMPT
from shared.domain.checks import canonical_sentence, validate_check
from shared.domain.errors import StepFailed
from shared.domain.identifiers import row_id_of, seed_of
from shared.domain.ledger import row_ledger
from shared.domain.rows import Facet, InstructionRow, Preference, Rejection
from shared.domain.system_forms import load_forms
from shared.llm.protocol import CompletionRequest, OutputTruncated, RequestRejected
from tests.support.fake_models import ScriptedModel, block_of, completion_of, context_of
from tests.support.taxonomies import small_taxonomy

HANDLER = HANDLERS[0]
INSTRUCTION = "How do I prune an old apple tree that has not been cut for many years?"
CHECK = validate_check("maximum_words", {"words": 120})


def _row(facets: int = 3, words: int = 6) -> InstructionRow:
    row = InstructionRow(row_id_of(INSTRUCTION), INSTRUCTION, "demo", "demo", 0)
    for index in range(facets):
        made = [f"w{seed_of(index, number):x}"[:7] for number in range(2 * words)]
        row.facets.append(
            Facet(
                index=index,
                preferences=[
                    Preference("style", "s", "k", f"Wants {' '.join(made[:words])}.", "p"),
                    Preference(
                        "depth",
                        "d",
                        "k",
                        f"Wants {' '.join(made[words:])}. {canonical_sentence(CHECK)}",
                        "p",
                        "",
                        CHECK,
                    ),
                ],
            )
        )
    return row


SHAPES = {form.name: form.shape for form in load_forms()}


def _written(request: CompletionRequest, parts: Sequence[str]) -> dict[str, str]:
    """The parts in the form and at the length that the request asks for."""
    block = block_of(request)
    shape = SHAPES[block["form"]]
    missing = round(block["target_characters"]) - len(" ".join(parts))
    parts = [f"You are {block['role']}.", *parts] if block["role"] else parts
    parts = [*parts, f"Thanks{' a lot' * max(0, missing // 6)}."]
    marks = {"bullets": "- ", "numbered": "1. ", "labelled": "Wish: "}
    mark, end = marks.get(shape, ""), "\n" if shape in marks or shape == "paragraphs" else " "
    return {"system": end.join(mark + part for part in parts)}


def _good(request: CompletionRequest) -> dict[str, str]:
    return _written(request, [f"For {request.sample_index}.", *block_of(request)["descriptions"]])


async def _compose(
    script: Callable[..., Any], row: InstructionRow | None = None, **compose: Any
) -> tuple[InstructionRow, ScriptedModel]:
    teacher = ScriptedModel(script)
    context = context_of(teacher, small_taxonomy(), stage="compose", compose=compose)
    return await HANDLER.process(row or _row(), context), teacher


async def test_every_living_facet_gets_one_message() -> None:
    row, teacher = await _compose(_good)
    assert sorted(teacher.sample_indices) == ["compose:0:0", "compose:1:0", "compose:2:0"]
    assert {(one.request_class, one.schema_name) for one in teacher.requests} == {("compose", "system_message")}
    for facet in row.facets:
        assert facet.system is not None
        assert f"For compose:{facet.index}:0" in facet.system
    assert len({facet.system_form for facet in row.facets}) == 3
    row_ledger(row, "compose").check()


async def test_only_descriptions_go_to_the_teacher_in_the_order_of_the_set() -> None:
    row, teacher = await _compose(_good)
    for facet, request in zip(row.facets, teacher.requests, strict=True):
        block = block_of(request)
        assert block["descriptions"] == [preference.description for preference in facet.preferences]
        assert block["required_sentences"] == [canonical_sentence(CHECK)]
        assert block["form"] == facet.system_form
        assert set(block) == {"form", "role", "target_characters", "descriptions", "required_sentences"}
        assert all(INSTRUCTION not in message["content"] for message in request.messages)


async def test_a_persistent_person_has_one_message_for_every_instruction() -> None:
    def of(instruction: str) -> InstructionRow:
        row = _row(1)
        row.row_id, row.instruction = row_id_of(instruction), instruction
        row.facets[0].profile = 12
        return row

    first, one = await _compose(_good, of("How do I prune an old apple tree?"))
    second, other = await _compose(_good, of("What did lighthouses burn before there was oil?"))
    assert one.requests == other.requests
    assert one.sample_indices == ["compose:profile:12:0"]
    assert first.facets[0].system == second.facets[0].system


async def test_provenance_names_the_call_that_was_kept() -> None:
    def script(request: CompletionRequest) -> Any:
        if request.sample_index == "compose:1:0":
            return completion_of('{"system": "too short"}', prompt_tokens=7, completion_tokens=1)
        return _good(request)

    row, teacher = await _compose(script)
    made = row.facets[1].provenance[0]
    last = next(request for request in teacher.requests if request.sample_index == "compose:1:1")
    assert (made.stage, made.prompt_version, made.seed, made.attempts) == ("compose", PROMPT.version, last.seed, 2)
    assert (made.prompt_tokens, made.completion_tokens) == (17, 6)


async def test_a_bad_message_is_asked_for_again_then_rejected() -> None:
    def script(request: CompletionRequest) -> Any:
        if request.sample_index.startswith("compose:2:"):
            return {"system": f"{_good(request)['system']} {INSTRUCTION}"}
        return _good(request)

    row, teacher = await _compose(script, quality_retries=1)
    assert sorted(teacher.sample_indices) == ["compose:0:0", "compose:1:0", "compose:2:0", "compose:2:1"]
    rejection = row.facets[2].rejection
    assert rejection is not None
    assert (rejection.stage, rejection.reason) == ("compose", "restates_task")
    assert row.facets[2].system is None
    assert row_ledger(row, "compose").reasons == {"restates_task": 1}


async def test_a_teacher_with_one_form_and_length_for_everything_is_found_out() -> None:
    reasons: Counter[str] = Counter()
    for number in range(20):
        row = _row()
        row.row_id = row_id_of(str(number))
        row, _ = await _compose(
            lambda request: {"system": " ".join([*block_of(request)["descriptions"], "Thanks a lot." * 8])}, row
        )
        reasons.update(facet.rejection.reason if facet.rejection else facet.system_form or "" for facet in row.facets)
    assert reasons["wrong_form"] > 15
    assert reasons["length_off_target"] > 10
    assert not {"bullet_brief", "terse_rules", "audience_sheet", "mentor_portrait"} & set(reasons)


async def test_the_later_of_two_alike_messages_is_written_again() -> None:
    row = _row(2, words=50)
    row.facets[1].preferences = list(row.facets[0].preferences)

    def script(request: CompletionRequest) -> Any:
        parts = block_of(request)["descriptions"]
        other = " ".join(f"x{number}" for number in range(60))
        return _written(request, parts if request.sample_index.endswith(":0") else [*parts, other])

    row, teacher = await _compose(script, row, maximum_characters=1500)
    assert sorted(teacher.sample_indices) == ["compose:0:0", "compose:1:0", "compose:1:1"]
    assert row.facets[0].system != row.facets[1].system
    assert row.alive


async def test_rejected_facets_are_left_alone() -> None:
    row = _row()
    row.facets[0].rejection = Rejection("augment", "similar_set")
    row, teacher = await _compose(_good, row)
    assert sorted(teacher.sample_indices) == ["compose:1:0", "compose:2:0"]
    assert row.facets[0].provenance == []
    ledger = row_ledger(row, "compose")
    assert (ledger.facets_in, ledger.facets_out) == (2, 2)


@pytest.mark.parametrize(("error", "calls"), [(OutputTruncated("x"), 3), (RequestRejected("x"), 1)])
async def test_errors_of_the_model_reject_with_their_code(error: OutputTruncated, calls: int) -> None:
    row, teacher = await _compose(lambda _: error, _row(1))
    assert len(teacher.requests) == calls
    assert row.facets[0].rejection is not None
    assert row.facets[0].rejection.reason == error.code
    assert row.facets[0].provenance[0].attempts == calls


async def test_equal_rows_make_equal_requests() -> None:
    _, first = await _compose(_good)
    _, second = await _compose(_good)
    assert first.requests == second.requests


async def test_step_errors_and_cancellation_pass_through() -> None:
    error = StepFailed("budget_exhausted", "no money")
    with pytest.raises(StepFailed) as caught:
        await _compose(lambda _: error)
    assert caught.value is error

    started = asyncio.Event()

    async def script(_: CompletionRequest) -> str:
        started.set()
        await asyncio.Event().wait()
        return ""

    task = asyncio.create_task(_compose(script))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
