"""People whose preferences are known: they choose between simulated answers by how many of their preferences each follows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import exp
from random import Random

import numpy as np

from services.simulator.respond import answer_respond
from shared.domain.checks import canonical_sentence
from shared.domain.taxonomy import default_taxonomy
from shared.personal.inference.choices import Choice
from shared.personal.inference.columns import Column, program_columns
from shared.personal.resolving import Wish, candidate_wishes, contradiction

TAXONOMY = default_taxonomy()
CHECKED = [wish for _, wish in candidate_wishes(TAXONOMY) if wish.seed is not None and wish.check is not None]
SUBJECTS = (
    "bees",
    "tax returns",
    "old windows",
    "sourdough",
    "tides",
    "chess",
    "insulation",
    "poems",
    "bicycles",
    "soil",
)


@lru_cache(maxsize=4)
def answered_pairs(prompts: int, seed: int = 0) -> tuple[tuple[str, str, str], ...]:
    """A prompt and two answers to it, each written for another person of one to four preferences."""
    chance = Random(seed)
    pairs = []
    for number in range(prompts):
        prompt = f"What should I know about {SUBJECTS[number % len(SUBJECTS)]} before I try number {number}?"
        texts = []
        for side in range(2):
            system = " ".join(
                canonical_sentence(wish.check) for wish in drawn_wishes(chance, chance.randint(1, 4)) if wish.check
            )
            texts.append(answer_respond(system, prompt, seed, f"{number}/{side}".encode()))
        pairs.append((prompt, texts[0], texts[1]))
    return tuple(pairs)


def drawn_wishes(chance: Random, count: int) -> list[Wish]:
    """Seeds with machine checks that can stand together."""
    kept: list[Wish] = []
    for wish in chance.sample(CHECKED, len(CHECKED)):
        if len(kept) < count and all(contradiction(wish, other) is None for other in kept):
            kept.append(wish)
    return kept


@lru_cache(maxsize=4)
def evidence_of(prompts: int, seed: int = 0) -> tuple[Column, ...]:
    """The columns of the pairs where the first answer is always taken. Turned choices have the opposite values."""
    pairs = answered_pairs(prompts, seed)
    return tuple(program_columns([Choice(prompt=p, chosen=one, rejected=other) for p, one, other in pairs], TAXONOMY))


@dataclass(frozen=True)
class Chosen:
    """What a person chose, with its evidence."""

    choices: list[Choice]
    columns: list[Column]


def choices_of(
    wishes: Sequence[Wish], prompts: int, chance: Random, *, firmness: float = 4.0, flipped: float = 0.0, seed: int = 0
) -> Chosen:
    """One answer is taken over the other with odds of exp(firmness) for each wish that it follows beyond the other; a share
    `flipped` of the choices is then turned round."""
    pairs, columns = answered_pairs(prompts, seed), evidence_of(prompts, seed)
    leads = sum(
        (column.values for column in columns if column.wish.seed in [wish.seed for wish in wishes]),
        np.zeros(len(pairs)),
    )
    signs = np.ones(len(pairs))
    choices = []
    for number, (prompt, one, other) in enumerate(pairs):
        takes_one = chance.random() < 1 / (1 + exp(-firmness * leads[number]))
        if chance.random() < flipped:
            takes_one = not takes_one
        signs[number] = 1 if takes_one else -1
        chosen, rejected = (one, other) if takes_one else (other, one)
        choices.append(Choice(prompt=prompt, chosen=chosen, rejected=rejected))
    return Chosen(choices, [replace(column, values=column.values * signs) for column in columns])
