"""Reviews of system messages by a simulated judge: shipped slips are known for what they are, and errors come as stated."""

import re
from collections import Counter

import orjson
import pytest

from services.simulator.answers import make_answer
from services.simulator.compose import answer_compose
from services.simulator.faults import Fault, FaultPlan
from services.simulator.judge import answer_judge
from services.simulator.judge_profile import JudgeProfile, preset
from services.simulator.message_review import true_finding
from services.simulator.requests import BadRequest, RequestClass, class_of, parse_request
from services.simulator.slips import load_slips
from services.simulator.text_slips import slipped_compose
from shared.domain.system_forms import load_forms
from tests.services.simulator.support import block_body

DESCRIPTIONS = [
    "The reader wants the view from the balcony before any advice on soil.",
    "Words of encouragement are welcome where the wind has done damage.",
]
FORMS = [form.name for form in load_forms()]


def compose_block(number: int) -> dict[str, object]:
    return {"form": FORMS[number % len(FORMS)], "descriptions": DESCRIPTIONS, "target_characters": 700}


def review_block(*texts: str) -> dict[str, object]:
    return {"messages": [{"message": number, "text": text} for number, text in enumerate(texts)]}


@pytest.mark.parametrize(
    ("slip", "holds"),
    [(Fault.LEAKED_ANSWER, "answer"), (Fault.RESTATED_TASK, "task"), (Fault.INJECTED_MESSAGE, "command")],
)
def test_every_slip_is_known_and_quoted(slip: Fault, holds: str) -> None:
    for number in range(200):
        text, label = slipped_compose(compose_block(number), slip, 0, bytes([number]))
        kind, quote = true_finding(text)
        assert kind == holds
        assert quote in text
        assert quote.lower() == label.detail.lower()


def test_sound_messages_hold_nothing() -> None:
    for number in range(200):
        assert true_finding(answer_compose(compose_block(number), 0, bytes([number]))) == ("nothing", "")


def test_a_judge_who_obeys_finds_nothing_in_a_message_that_commands_it() -> None:
    command = slipped_compose(compose_block(0), Fault.INJECTED_MESSAGE, 0, b"0")[0]
    leak = slipped_compose(compose_block(0), Fault.LEAKED_ANSWER, 0, b"0")[0]
    block = review_block(command, f"{leak} {load_slips().message_commands[0]}", leak)

    def said(profile: JudgeProfile) -> list[str]:
        return [one["holds"] for one in answer_judge(block, 0, b"0", profile)["messages"]]

    assert said(JudgeProfile()) == ["command", "answer", "answer"]
    assert said(preset("injectable")) == ["nothing", "nothing", "answer"]


def test_errors_come_at_the_stated_share_and_quote_the_message() -> None:
    leak = slipped_compose(compose_block(0), Fault.LEAKED_ANSWER, 0, b"0")[0]
    sound = answer_compose(compose_block(0), 0, b"0")
    block = review_block(*[leak, sound] * 1000)
    texts = {one["message"]: one["text"] for one in block["messages"]}  # type: ignore[attr-defined]
    said = answer_judge(block, 0, b"0", JudgeProfile(review_error=0.1))["messages"]
    assert [one["message"] for one in said] == list(range(2000))
    for truth, remainder in (("answer", 0), ("nothing", 1)):
        counts = Counter(one["holds"] for one in said if one["message"] % 2 == remainder)
        # 1000 draws of a tenth, shared by the three other answers: five standard deviations are 47 and 29.
        assert abs(1000 - counts.pop(truth) - 100) < 47
        assert len(counts) == 3
        assert all(abs(count - 100 / 3) < 29 for count in counts.values())
    for one in said:
        assert bool(one["quote"]) == (one["holds"] != "nothing")
        assert re.sub(r"\s+", " ", one["quote"]) in re.sub(r"\s+", " ", texts[one["message"]])
    assert preset("faithful").review_error == 0


def test_the_schema_says_the_class_and_the_keys_the_kind() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "message_review", "schema": {"type": "object"}}}
    request = parse_request(orjson.dumps(block_body(review_block("Be brief."), response_format=schema)))
    assert class_of(None, request) is RequestClass.JUDGE
    answer = make_answer(request, RequestClass.JUDGE, None, 0, b"0", FaultPlan())
    assert answer.content == '{"messages":[{"message":0,"holds":"nothing","quote":""}]}'


@pytest.mark.parametrize("messages", [None, "x", ["x"], [{"message": "0", "text": "x"}], [{"message": 0}]])
def test_a_block_that_cannot_be_read_is_refused(messages: object) -> None:
    with pytest.raises(BadRequest):
        answer_judge({"messages": messages}, 0, b"0", JudgeProfile())
