"""Whether an evaluation can be believed: what was asked, what was lost and why, and who judged whom."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from services.evaluation.figures.gathering import Answered, by_frequency
from shared.domain.evaluations import COMPARE_PREFIX, JUDGE_PREFIX, MEASURE_PREFIX, RATE_PREFIX
from shared.domain.jobs import JobSpec, ModelChoice


def completeness(
    spec: JobSpec, answered: Mapping[str, Answered], candidates: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """`stages`: verdicts and measures asked and lost of every stage behind the answers, `answers`: questions without an answer
    by candidate and reason, `unasked`: what never was a question. `incomplete` where a stage lost a larger share, or a candidate
    of its answers, than the job allows; `reasons` says which, in sentences."""
    allowed = 0.0 if spec.evaluate is None else spec.evaluate.maximum_missing
    stages = [stage for candidate in candidates for stage in _stages(candidate)]
    answers: list[dict[str, Any]] = []
    for name, found in answered.items():
        missing = found.missing.total()
        questions = missing + len(found.words)
        answers.append(
            {
                "candidate": name,
                "questions": questions,
                "missing": missing,
                "share": missing / questions if questions else 0.0,
                "reasons": by_frequency(found.missing),
            }
        )
    reasons = [
        f"{stage['stage']} lost {stage['lost']:,} of {stage['asked']:,} {_unit(stage['stage'])} ({_told(stage['reasons'])})"
        for stage in stages
        if stage["share"] > allowed
    ]
    reasons += [
        f"{one['candidate']} has no answer to {one['missing']:,} of {one['questions']:,} questions ({_told(one['reasons'])})"
        for one in answers
        if one["share"] > allowed
    ]
    unasked = max((found.unasked for found in answered.values()), key=Counter.total, default=Counter())
    return {
        "incomplete": bool(reasons),
        "reasons": reasons,
        "maximum_missing": allowed,
        "stages": stages,
        "answers": answers,
        "unasked": by_frequency(unasked),
    }


def _stages(candidate: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What was asked of the stages behind one candidate's answers, and what they lost."""
    for prefix, part in ((JUDGE_PREFIX, "absolute"), (RATE_PREFIX, "conversation"), (COMPARE_PREFIX, "pairwise")):
        if (figures := candidate.get(part)) is not None:
            yield _stage(prefix + candidate["name"], figures["asked"], figures["lost"])
    if (measured := candidate.get("measure")) is not None:
        yield _stage(
            MEASURE_PREFIX + candidate["name"], measured["answers"], _one("not_measured", measured["unmeasured"])
        )
    rewards = candidate["rewards"]
    if rewards is not None and rewards["accuracy"] is not None:
        asked = rewards["accuracy"]["n"] + rewards["unscored"]
        yield _stage(f"{candidate['name']} (rewards)", asked, _one("not_scored", rewards["unscored"]))


def _stage(name: str, asked: int, reasons: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    lost = sum(one["count"] for one in reasons)
    return {"stage": name, "asked": asked, "lost": lost, "share": lost / asked if asked else 0.0, "reasons": reasons}


def _one(reason: str, count: int) -> list[dict[str, Any]]:
    return [{"name": reason, "count": count}] if count else []


def _unit(stage: str) -> str:
    return "answers" if stage.startswith(MEASURE_PREFIX) else "pairs" if stage.endswith("(rewards)") else "verdicts"


def judge_flags(spec: JobSpec, facts: Mapping[str, Any]) -> list[str]:
    """Why the judge may favour one side: it is a teacher whose texts are the references, the rubrics or what a candidate was
    trained on, or a candidate itself."""
    if spec.judge is None or spec.evaluate is None or not spec.evaluate.needs_judge:
        return []
    judge = _model(spec.judge)
    flags = []
    if judge in {_model(spec.teacher), *(facts.get("asked_teachers") or ())}:
        flags.append(
            f"The judge {judge} is the model that wrote the reference answers or rubrics: it may favour what reads like itself."
        )
    known: Mapping[str, Mapping[str, Any]] = facts.get("answer_models") or {}
    for answer in spec.answer:
        choice, model = answer.candidate, known.get(answer.name, {})
        itself = model.get("model") if choice.provider is None else f"{choice.provider}/{choice.model}"
        if itself == judge:
            flags.append(f"The judge {judge} is the candidate {answer.name} itself: it may favour its own answers.")
        elif model.get("trained_on") == judge:
            flags.append(
                f"The candidate {answer.name} was trained on texts of the judge {judge}, which may favour them."
            )
    return flags


def _model(choice: ModelChoice | None) -> str | None:
    return None if choice is None else f"{choice.provider}/{choice.model}"


def _told(reasons: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{one['name']}: {one['count']:,}" for one in reasons)
