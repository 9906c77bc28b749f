"""A judge's reading of choices: which poles of the taxonomy each of the two answers stands on, for what no program measures.

The judge is blind: it sees both answers in an order drawn by seed and never learns which was chosen. What it reports becomes
columns of evidence like those of programs, and is believed only as far as it predicts.
"""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from shared.domain.errors import InputRefused, MultifacetError
from shared.domain.identifiers import seed_of
from shared.domain.taxonomy import Taxonomy
from shared.llm.protocol import CompletionRequest, LanguageModel, LanguageModelError
from shared.personal.inference.choices import Choice
from shared.personal.inference.columns import Column
from shared.personal.inference.report import JudgeReading
from shared.personal.resolving import candidate_wishes
from shared.prompts import load_prompt

PROMPT = load_prompt("shared.personal", "choice_reading")
SCHEMA_NAME = "choice_reading"
MOST_CHOICES = 400
"""That a judge reads for one request: somebody waits for the answer."""
PAIRS_PER_CALL = 4
SHOWN_CHARACTERS = 4000
SHOWN_PROMPT_CHARACTERS = 2000
MAXIMUM_TOKENS = 3000
MOST_UNREAD = 0.2
"""Share of the choices that may be missing; above it the reading is no reading."""
_CUT = " […]"


class JudgeFailed(MultifacetError):
    """Too many of the judge's calls gave nothing usable."""

    code = "judge_failed"


class ReadingModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Finding(ReadingModel):
    subdimension: int
    pole: int
    answer: Literal["first", "second"]


class PairFindings(ReadingModel):
    pair: int
    findings: list[Finding]


class ChoiceReading(ReadingModel):
    """The structured output of one call."""

    pairs: list[PairFindings]


SCHEMA: dict[str, Any] = ChoiceReading.model_json_schema()


def require_readable(choices: Sequence[Choice]) -> None:
    """Raise InputRefused where these are more choices than a judge reads at once."""
    if len(choices) > MOST_CHOICES:
        raise InputRefused(
            f"{len(choices)} choices are given; a judge reads at most {MOST_CHOICES} at once: give fewer, or leave the judge out",
            "/choices",
        )


async def judge_columns(
    choices: Sequence[Choice], taxonomy: Taxonomy, judge: LanguageModel, *, seed: int = 0
) -> tuple[list[Column], JudgeReading]:
    """A column for each pole of the taxonomy: 1 where the judge finds it in the chosen answer, -1 where in the rejected one.
    Of two poles one is the opposite of the other.

    Raises JudgeFailed where more than a fifth of the choices stayed unread, and StepFailed or StepDeferred as the judge does.
    """
    subdimensions = [one for dimension in taxonomy.dimensions for one in dimension.subdimensions]
    respects = [
        {
            "subdimension": number,
            "name": one.name,
            "poles": [
                {"pole": place, "name": pole.name, "description": pole.description}
                for place, pole in enumerate(one.poles)
            ],
        }
        for number, one in enumerate(subdimensions)
    ]
    chance = Random(seed_of("choice_reading", seed))
    turned = [chance.random() < 0.5 for _ in choices]
    batches = [
        range(start, min(start + PAIRS_PER_CALL, len(choices))) for start in range(0, len(choices), PAIRS_PER_CALL)
    ]
    readings = await asyncio.gather(*(_read(choices, batch, turned, respects, judge, seed) for batch in batches))
    values = {
        (number, place): np.zeros(len(choices))
        for number, one in enumerate(subdimensions)
        for place in range(len(one.poles))
    }
    read: set[int] = set()
    for reading in readings:
        for position, findings in reading.items():
            read.add(position)
            for finding in findings:
                if (finding.subdimension, finding.pole) not in values:
                    continue
                in_chosen = (finding.answer == "first") != turned[position]
                sign = 1.0 if in_chosen else -1.0
                values[finding.subdimension, finding.pole][position] = sign
                if len(subdimensions[finding.subdimension].poles) == 2:
                    values[finding.subdimension, 1 - finding.pole][position] = -sign
    if len(read) < (1 - MOST_UNREAD) * len(choices):
        raise JudgeFailed(
            f"{judge.provider}/{judge.model} read {len(read)} of {len(choices)} choices; below {1 - MOST_UNREAD:.0%} nothing is "
            "inferred: try again, name another judge, or leave it out"
        )
    places = {
        (one.name, pole.name): (number, place)
        for number, one in enumerate(subdimensions)
        for place, pole in enumerate(one.poles)
    }
    columns = [
        Column(stated, wish, "judge", values[places[wish.subdimension.name, wish.pole.name]])
        for stated, wish in candidate_wishes(taxonomy)
        if wish.seed is None and wish.subdimension is not None and wish.pole is not None
    ]
    shortened = sum(
        len(choice.prompt) > SHOWN_PROMPT_CHARACTERS or max(len(choice.chosen), len(choice.rejected)) > SHOWN_CHARACTERS
        for choice in choices
    )
    return columns, JudgeReading(
        provider=judge.provider,
        model=judge.model,
        read=len(read),
        unread=len(choices) - len(read),
        shortened=shortened,
    )


async def _read(
    choices: Sequence[Choice],
    batch: range,
    turned: Sequence[bool],
    respects: Sequence[dict[str, Any]],
    judge: LanguageModel,
    seed: int,
) -> dict[int, list[Finding]]:
    """The findings on each choice of a batch that was answered once, by position; none where the call failed."""
    pairs = []
    for number, position in enumerate(batch):
        choice = choices[position]
        first, second = (choice.rejected, choice.chosen) if turned[position] else (choice.chosen, choice.rejected)
        pairs.append(
            {
                "pair": number,
                "prompt": _cut(choice.prompt, SHOWN_PROMPT_CHARACTERS),
                "first": _cut(first, SHOWN_CHARACTERS),
                "second": _cut(second, SHOWN_CHARACTERS),
            }
        )
    request = CompletionRequest(
        messages=PROMPT.messages(request={"subdimensions": respects, "pairs": pairs}),
        request_class="judge",
        sample_index="choice_reading",
        temperature=0.0,
        max_tokens=MAXIMUM_TOKENS,
        seed=seed,
        schema_name=SCHEMA_NAME,
        schema=SCHEMA,
    )
    try:
        answer, _ = await judge.complete_structured(request, ChoiceReading)
    except LanguageModelError:
        return {}
    given = [one.pair for one in answer.pairs]
    return {
        batch[one.pair]: one.findings
        for one in answer.pairs
        if 0 <= one.pair < len(batch) and given.count(one.pair) == 1
    }


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - len(_CUT)] + _CUT
