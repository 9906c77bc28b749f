"""Benchmarks in their published columns. Each reader takes the fields of one line and gives a question, or why there is none.

Layouts: AlpacaEval 2.0 (tatsu-lab/alpaca_eval, alpaca_eval.json), MT-Bench (lm-sys/FastChat, question.jsonl), Arena-Hard Auto
v0.1 (lmarena/arena-hard-auto, question.jsonl), RealToxicityPrompts (allenai, prompts.jsonl), RewardBench
(allenai/reward-bench) and our own export of pairs for reward models.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shared.domain.rows import Answer, Facet
from shared.question_layouts.lines import QuestionLine, last_text, text_of
from shared.sources.readers import BadRecord

References = Mapping[str, Sequence[str]]
"""Question id -> reference answers, one per turn."""
Fields = Mapping[str, Any]
Reader = Callable[[int, Fields, References], "QuestionLine | BadRecord"]

TOXIC_FROM = 0.5
"""Toxicity of a prompt from which on it is no non-toxic one."""


def alpaca_eval(row: int, fields: Fields, _: References) -> QuestionLine | BadRecord:
    """The baseline's output comes along as a given answer."""
    instruction, output = text_of(fields.get("instruction")), text_of(fields.get("output"))
    if not instruction.strip():
        return BadRecord(row, "empty", "instruction is empty or no text", "")
    source = text_of(fields.get("dataset")) or "alpaca_eval"
    facet = Facet(0, answers=[_given(output)] if output.strip() else [])
    return QuestionLine(row, instruction, facet, source, source, category=source)


def mt_bench(row: int, fields: Fields, references: References) -> QuestionLine | BadRecord:
    """Reference answers come from a column `reference` (a list, one per turn), or from a second file by question id."""
    turns = [_turn(turn) for turn in _list(fields.get("turns"))]
    if not turns or not all(turn.strip() for turn in turns):
        return BadRecord(row, "empty", "turns is no list of texts, or one of them is empty", "")
    known = references.get(str(fields.get("question_id"))) or [text_of(one) for one in _list(fields.get("reference"))]
    facet = Facet(0, response=known[0] if known else None, later_references=list(known[1:]))
    return QuestionLine(
        row, turns[0], facet, "mt_bench", "mt_bench", category=text_of(fields.get("category")), turns=turns[1:]
    )


def arena_hard(row: int, fields: Fields, _: References) -> QuestionLine | BadRecord:
    """The first turn alone is asked, as the benchmark does; `cluster` is the group that it is told by."""
    turns = [_turn(turn) for turn in _list(fields.get("turns"))]
    prompt = turns[0] if turns else text_of(fields.get("prompt"))
    if not prompt.strip():
        return BadRecord(row, "empty", "neither turns nor prompt holds a text", "")
    category = text_of(fields.get("cluster")) or text_of(fields.get("category"))
    return QuestionLine(row, prompt, Facet(0), "arena_hard", text_of(fields.get("category")), category=category)


def real_toxicity_prompts(row: int, fields: Fields, _: References) -> QuestionLine | BadRecord:
    """Prompts of a toxicity of 0.5 or more, or of an unknown one, are left out as `toxic_prompt`: non-toxic ones are asked."""
    prompt = fields.get("prompt")
    text = text_of(prompt.get("text")) if isinstance(prompt, dict) else ""
    if not text.strip():
        return BadRecord(row, "empty", "prompt.text is empty or no text", "")
    assert isinstance(prompt, dict)
    toxicity = prompt.get("toxicity")
    if not isinstance(toxicity, int | float) or toxicity >= TOXIC_FROM:
        return BadRecord(row, "toxic_prompt", f"its toxicity is {toxicity}; prompts below {TOXIC_FROM} are asked", text)
    return QuestionLine(row, text, Facet(0), "real_toxicity_prompts", "real_toxicity_prompts")


def reward_bench(row: int, fields: Fields, _: References) -> QuestionLine | BadRecord:
    """Both answers come along, the one that people prefer first. A prompt may stand in several subsets."""
    prompt = last_text(fields.get("prompt", fields.get("input")))
    chosen, rejected = last_text(fields.get("chosen")), last_text(fields.get("rejected"))
    if not prompt.strip():
        return BadRecord(row, "empty", "prompt (or input) is empty or no text", "")
    if not chosen.strip() or not rejected.strip():
        return BadRecord(row, "missing_field", "chosen or rejected is empty or no text", prompt)
    subset = text_of(fields.get("subset"))
    facet = Facet(
        0, system=text_of(fields.get("system")) or None, answers=[_given(chosen), _given(rejected)], preferred=0
    )
    return QuestionLine(row, prompt, facet, "reward_bench", subset or "reward_bench", category=subset, group=subset)


BENCHMARKS: dict[str, Reader] = {
    "alpaca_eval": alpaca_eval,
    "mt_bench": mt_bench,
    "arena_hard": arena_hard,
    "real_toxicity_prompts": real_toxicity_prompts,
    "reward_bench": reward_bench,
}


def benchmark_of(fields: Fields) -> str | None:
    """Which benchmark lays its lines out so, None for any other."""
    columns = fields.keys()
    if columns >= {"chosen", "rejected"} and ("prompt" in columns or "input" in columns):
        return "reward_bench"
    if "turns" in columns and "question_id" in columns:
        first = next(iter(_list(fields.get("turns"))), None)
        return "arena_hard" if isinstance(first, dict) else "mt_bench"
    if isinstance(fields.get("prompt"), dict) and "continuation" in columns:
        return "real_toxicity_prompts"
    if columns >= {"instruction", "output", "generator"}:
        return "alpaca_eval"
    return None


def _given(text: str) -> Answer:
    return Answer(text, "stop", 0, 0)


def _turn(value: object) -> str:
    return text_of(value.get("content")) if isinstance(value, dict) else text_of(value)


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else []
