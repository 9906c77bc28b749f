"""Comparisons of answers in the terms of a taxonomy: which of two texts stands more on a pole, by the checks of its seeds."""

from functools import lru_cache
from typing import Any

from services.simulator.chance import generator_of
from services.simulator.judge_profile import JudgeProfile
from services.simulator.requests import BadRequest
from shared.domain.checks import Check, evaluate
from shared.domain.taxonomy import default_taxonomy, seed_check

_ANSWERS = ("first", "second")
_CLEARLY = 0.3
"""Difference of the shares of passed checks from which on two texts differ."""


@lru_cache(maxsize=1)
def _checks() -> dict[tuple[str, str], list[Check]]:
    """The machine checks of the shipped taxonomy, by names of subdimension and pole."""
    found: dict[tuple[str, str], list[Check]] = {}
    for placed in default_taxonomy().seeds():
        check = seed_check(placed.seed)
        if check is not None:
            found.setdefault((placed.subdimension.name, placed.seed.pole), []).append(check)
    return found


def true_findings(subdimensions: list[dict[str, Any]], first: str, second: str) -> list[dict[str, Any]]:
    """In which of the subdimensions the two texts differ clearly. A pole counts by the share of its seeds' checks that a text
    passes, less that of the other poles; poles that no check of the shipped taxonomy speaks to are never found."""
    findings = []
    for subdimension in subdimensions:
        leads = []
        for pole in subdimension["poles"]:
            checks = _checks().get((str(subdimension["name"]), str(pole["name"])), [])
            leads.append(_share(checks, first) - _share(checks, second) if checks else 0.0)
        # Where one pole gains, the others lose: a text that is brief is not expansive.
        margins = [2 * lead - sum(leads) for lead in leads]
        place = max(range(len(margins)), key=lambda number: abs(margins[number]), default=None)
        if place is None or abs(margins[place]) < _CLEARLY:
            continue
        answer = _ANSWERS[margins[place] < 0]
        findings.append(
            {
                "subdimension": subdimension["subdimension"],
                "pole": subdimension["poles"][place]["pole"],
                "answer": answer,
            }
        )
    return findings


def answer_choice_reading(block: dict[str, Any], seed: int, digest: bytes, profile: JudgeProfile) -> dict[str, Any]:
    """`{"pairs": [{pair, findings: [{subdimension, pole, answer}]}]}`. With the share `review_error` of the profile the other
    answer is named in a finding. Raises BadRequest for a block that cannot be read."""
    chance = generator_of(seed, digest, "choice_reading")
    answers = []
    try:
        subdimensions = list(block["subdimensions"])
        for pair in block["pairs"]:
            findings = true_findings(subdimensions, str(pair["first"]), str(pair["second"]))
            for finding in findings:
                if chance.random() < profile.review_error:
                    finding["answer"] = _ANSWERS[finding["answer"] == "first"]
            answers.append({"pair": pair["pair"], "findings": findings})
    except (KeyError, TypeError) as error:
        raise BadRequest(f"the json block cannot be read as subdimensions and pairs: {error}", "messages") from error
    return {"pairs": answers}


def _share(checks: list[Check], text: str) -> float:
    return sum(evaluate(check, text).outcome == "pass" for check in checks) / len(checks)
