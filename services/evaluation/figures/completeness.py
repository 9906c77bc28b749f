"""Whether an evaluation can be believed: what was asked, what was lost and why, and who judged whom."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.evaluation.figures.gathering import Answered, by_frequency
from shared.domain.evaluations import COMPARE_PREFIX, JUDGE_PREFIX, RATE_PREFIX
from shared.domain.jobs import JobSpec, ModelChoice


def completeness(
    spec: JobSpec, answered: Mapping[str, Answered], candidates: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """`stages`: verdicts asked and lost of every stage that judged, `answers`: questions without an answer by candidate and
    reason. `incomplete` where a stage lost a larger share of its verdicts, or a candidate of its answers, than the job allows;
    `reasons` says which, in sentences."""
    allowed = 0.0 if spec.evaluate is None else spec.evaluate.maximum_missing
    stages: list[dict[str, Any]] = []
    for candidate in candidates:
        for prefix, part in ((JUDGE_PREFIX, "absolute"), (RATE_PREFIX, "conversation"), (COMPARE_PREFIX, "pairwise")):
            figures = candidate.get(part)
            if figures is None:
                continue
            lost = sum(one["count"] for one in figures["lost"])
            stages.append(
                {
                    "stage": prefix + candidate["name"],
                    "asked": figures["asked"],
                    "lost": lost,
                    "share": lost / figures["asked"] if figures["asked"] else 0.0,
                    "reasons": figures["lost"],
                }
            )
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
        f"{stage['stage']} lost {stage['lost']:,} of {stage['asked']:,} verdicts ({_told(stage['reasons'])})"
        for stage in stages
        if stage["share"] > allowed
    ]
    reasons += [
        f"{one['candidate']} has no answer to {one['missing']:,} of {one['questions']:,} questions ({_told(one['reasons'])})"
        for one in answers
        if one["share"] > allowed
    ]
    return {
        "incomplete": bool(reasons),
        "reasons": reasons,
        "maximum_missing": allowed,
        "stages": stages,
        "answers": answers,
    }


def judge_flags(spec: JobSpec, facts: Mapping[str, Any]) -> list[str]:
    """Why the judge may favour one side: it is the teacher whose texts are the references or the data, or a candidate itself."""
    if spec.judge is None or spec.evaluate is None or not spec.evaluate.needs_judge:
        return []
    judge = f"{spec.judge.provider}/{spec.judge.model}"
    flags = []
    teachers = {_model(spec.teacher), facts.get("asked_teacher")} - {None}
    if judge in teachers:
        flags.append(
            f"The judge {judge} is the model that wrote the reference answers or rubrics: it may favour what reads like itself."
        )
    for answer in spec.answer:
        choice = answer.candidate
        if choice.provider is not None and f"{choice.provider}/{choice.model}" == judge:
            flags.append(f"The judge {judge} is the candidate {answer.name} itself: it may favour its own answers.")
    return flags


def _model(choice: ModelChoice | None) -> str | None:
    return None if choice is None else f"{choice.provider}/{choice.model}"


def _told(reasons: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{one['name']}: {one['count']:,}" for one in reasons)
