"""Reviews of facts: which of several answers contradict the reference?"""

from typing import Any

from services.simulator.chance import generator_of
from services.simulator.checklist import holds_command, noticed_contradictions
from services.simulator.judge_profile import JudgeProfile
from services.simulator.requests import BadRequest, numbered_texts


def answer_facts_review(block: dict[str, Any], seed: int, digest: bytes, profile: JudgeProfile) -> dict[str, Any]:
    """`{"contradictions": [{answer, answer_quote, reference_quote}]}`. Each answer is compared as in a checklist, with the same
    two rates of the profile; a judge who obeys injections passes over an answer that commands it. Raises BadRequest for a block
    that cannot be read."""
    instruction, reference = block.get("instruction"), block.get("reference")
    if not isinstance(instruction, str) or not isinstance(reference, str):
        raise BadRequest("the json block needs `instruction` and `reference` as text", "messages")
    chance = generator_of(seed, digest, "facts_review")
    return {
        "contradictions": [
            {"answer": number, "answer_quote": ours, "reference_quote": theirs}
            for number, text in numbered_texts(block, "answers", "answer")
            if not (profile.obeys_injections and holds_command(text))
            for ours, theirs in noticed_contradictions(instruction, text, reference, profile, chance)
        ]
    }
