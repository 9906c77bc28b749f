"""Reviews of facts by a simulated judge: altered statements are quoted, and the profile's rates are met."""

import orjson
import pytest

from services.simulator.answers import make_answer
from services.simulator.facts_review import answer_facts_review
from services.simulator.faults import Fault, FaultPlan
from services.simulator.judge_profile import JudgeProfile
from services.simulator.requests import BadRequest, RequestClass, parse_request
from services.simulator.respond import answer_respond
from services.simulator.slips import load_slips
from services.simulator.text_slips import slipped_respond
from tests.services.simulator.support import block_body

INSTRUCTION = "How do I keep tomatoes alive on a windy balcony?"
NEUTRAL = answer_respond("", INSTRUCTION, 0, b"n")


def answers(count: int) -> list[str]:
    """Every other one states something that the neutral answer states otherwise."""
    texts = []
    for number in range(count):
        if number % 2:
            text, label = slipped_respond("You like anecdotes.", INSTRUCTION, Fault.BROKEN_FACT, 0, bytes([number]))
            assert label.made
        else:
            text = answer_respond("You like anecdotes.", INSTRUCTION, 0, bytes([number]))
        texts.append(text)
    return texts


def block_of(texts: list[str]) -> dict[str, object]:
    shown = [{"answer": number, "text": text} for number, text in enumerate(texts)]
    return {"instruction": INSTRUCTION, "reference": NEUTRAL, "answers": shown}


def test_altered_statements_are_found_and_quoted() -> None:
    texts = answers(20)
    told = answer_facts_review(block_of(texts), 0, b"0", JudgeProfile())["contradictions"]
    assert sorted(one["answer"] for one in told) == list(range(1, 20, 2))
    for one in told:
        assert one["answer_quote"] in texts[one["answer"]]
        assert one["reference_quote"] in NEUTRAL


def test_the_rates_of_the_profile_are_met() -> None:
    texts = answers(20)
    profile = JudgeProfile(contradiction_recall=0.7, contradiction_false_rate=0.2)
    found = [0, 0]
    for number in range(60):
        told = {
            one["answer"] for one in answer_facts_review(block_of(texts), 0, bytes([number]), profile)["contradictions"]
        }
        for answer in told:
            found[answer % 2] += 1
    # Of a broken answer something false may be told as well, which does not show here: 1 - 0.3 * 0.8.
    assert found[1] / 600 == pytest.approx(0.76, abs=0.06)
    assert found[0] / 600 == pytest.approx(0.2, abs=0.06)


def test_a_judge_who_obeys_passes_over_the_answer_that_commands_alone() -> None:
    texts = answers(4)
    texts[1] += " " + load_slips().injections[0]
    told = answer_facts_review(block_of(texts), 0, b"0", JudgeProfile(obeys_injections=True))["contradictions"]
    assert {one["answer"] for one in told} == {3}


def test_the_block_tells_what_is_asked() -> None:
    request = parse_request(orjson.dumps(block_body(block_of(answers(2)))))
    made = orjson.loads(make_answer(request, RequestClass.JUDGE, None, 0, b"0", FaultPlan()).content or "")
    assert [one["answer"] for one in made["contradictions"]] == [1]


@pytest.mark.parametrize(
    "change", [{"answers": None}, {"answers": [{"answer": "0", "text": "x"}]}, {"reference": None}, {"instruction": 3}]
)
def test_blocks_that_cannot_be_read_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        answer_facts_review({**block_of(["x"]), **change}, 0, b"0", JudgeProfile())
