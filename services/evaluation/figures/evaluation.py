"""All figures of an evaluation as one document: what `evaluation.json` holds."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from services.evaluation.figures.absolute import (
    Grades,
    absolute_figures,
    dimension_scores,
    gather_grades,
    instruction_specificities,
    item_scores,
)
from services.evaluation.figures.checks import CheckedAnswers, check_figures, gather_checks, item_checks
from services.evaluation.figures.completeness import completeness, judge_flags
from services.evaluation.figures.conversations import conversation_figures, item_ratings
from services.evaluation.figures.diversity import diversity_figures, length_figures
from services.evaluation.figures.fingerprint import bench_fingerprint
from services.evaluation.figures.gathering import Answered, ItemKey, gather_answers
from services.evaluation.figures.measures import measure_figures
from services.evaluation.figures.pairwise import Battles, gather_battles, pairwise_figures, rating_figures
from services.evaluation.figures.rewards import reward_figures
from services.evaluation.figures.robustness import robustness_figures
from services.evaluation.figures.told import Draws
from shared.domain.answers import AnswerParameters
from shared.domain.evaluation_figures import EVALUATION_SCHEMA_VERSION
from shared.domain.evaluations import EvaluateParameters
from shared.domain.jobs import JobSpec
from shared.stages.protocol import InputObject


class Evaluation:
    """The figures of one job, made once. `document` is what evaluation.json holds; the rest is for tables and examples."""

    def __init__(self, spec: JobSpec, inputs: Sequence[InputObject], facts: Mapping[str, Any]) -> None:
        evaluate = spec.evaluate or EvaluateParameters()
        draws = Draws(evaluate.bootstrap_rounds, spec.seed)
        self.answered: dict[str, Answered] = {one.name: gather_answers(inputs, one) for one in spec.answer}
        self.words: dict[str, dict[ItemKey, int]] = {name: found.words for name, found in self.answered.items()}
        self.grades: dict[str, Grades] = {}
        self.battles: dict[str, Battles] = {}
        self.checks: dict[str, CheckedAnswers] = {one.name: gather_checks(inputs, one.name) for one in spec.answer}
        self.ratings: dict[str, dict[ItemKey, float]] = {}
        candidates = [self._candidate(one, evaluate, inputs, draws) for one in spec.answer]
        items = {key: item for found in self.answered.values() for key, item in found.items.items()}
        self.items = dict(sorted(items.items()))
        self.scores: dict[str, dict[ItemKey, float]] = {
            name: item_scores(found.grades) for name, found in self.grades.items()
        }
        self.dimension_scores = {name: dimension_scores(found.grades) for name, found in self.grades.items()}
        self.item_checks = {name: item_checks(found) for name, found in self.checks.items()}
        ratings = None
        if evaluate.pairwise is not None:
            battles = [battle for found in self.battles.values() for battle in found.battles]
            ratings = rating_figures(battles, evaluate.pairwise.baseline, draws)
        known: Mapping[str, Mapping[str, Any]] = facts.get("answer_models") or {}
        self.document: dict[str, Any] = {
            "schema_version": EVALUATION_SCHEMA_VERSION,
            "job_id": facts.get("job_id"),
            "name": spec.name,
            "bench": {"fingerprint": bench_fingerprint(inputs, spec), "id": spec.asked.bench},
            "judge": None if spec.judge is None or not evaluate.needs_judge else spec.judge.model_dump(),
            "simulated": sorted(_simulated(spec, facts, known)),
            "flags": judge_flags(spec, facts),
            "completeness": completeness(spec, self.answered, candidates),
            "instructions": len({row for row, _ in self.items}),
            "items": len(self.items),
            "candidates": candidates,
            "differences": _differences(self.scores, draws),
            "system_messages": self._system_messages(spec.answer, draws),
            "ratings": ratings,
            "baseline": None if evaluate.pairwise is None else evaluate.pairwise.baseline,
            "configuration": {
                "questions": spec.asked.model_dump(mode="json"),
                "answer": [one.model_dump(mode="json") for one in spec.answer],
                "evaluate": evaluate.model_dump(mode="json"),
                "bench": None if spec.bench is None else spec.bench.model_dump(mode="json"),
                "seed": spec.seed,
                "code_version": facts.get("code_version"),
            },
        }

    def _candidate(
        self, answer: AnswerParameters, evaluate: EvaluateParameters, inputs: Sequence[InputObject], draws: Draws
    ) -> dict[str, Any]:
        name = answer.name
        words = self.words[name]
        record: dict[str, Any] = {
            "name": name,
            "models": [model for model, _ in self.answered[name].models.most_common()],
            "system": answer.system,
            "words": length_figures(words, draws),
            "diversity": diversity_figures(inputs, name, draws),
            "checks": check_figures(self.checks[name], draws),
            "rewards": reward_figures(inputs, answer, draws),
            "robustness": robustness_figures(inputs, name, draws),
        }
        if evaluate.absolute is not None:
            self.grades[name] = gather_grades(inputs, name, words)
            record["absolute"] = absolute_figures(self.grades[name], words, draws)
        if evaluate.conversation is not None:
            record["conversation"] = conversation_figures(inputs, name, draws)
            self.ratings[name] = item_ratings(inputs, name)
        if evaluate.measure is not None:
            record["measure"] = measure_figures(inputs, name, evaluate.measure, draws)
        if evaluate.pairwise is not None and name != evaluate.pairwise.baseline:
            self.battles[name] = gather_battles(inputs, name, evaluate.pairwise.baseline, self.words)
            record["pairwise"] = pairwise_figures(self.battles[name], draws)
        return record

    def _system_messages(self, answers: Sequence[AnswerParameters], draws: Draws) -> list[dict[str, Any]]:
        """Of models that answered with and without their system message, or under another person's: score, specificity and
        checks with it minus without, instruction by instruction. Models are the same where their candidates and decoding are."""
        specificities = {name: instruction_specificities(found.scored) for name, found in self.grades.items()}
        found = []
        for own in answers:
            for other in answers:
                same = (own.candidate, own.decoding) == (other.candidate, other.decoding)
                if own.system != "own" or other.system == "own" or not same:
                    continue
                figures = {
                    name: _paired(known.get(own.name, {}), known.get(other.name, {}), draws)
                    for name, known in (("score", self.scores), ("checks", self.item_checks))
                }
                found.append(
                    {
                        "own": own.name,
                        "other": other.name,
                        "system": other.system,
                        **figures["score"],
                        "checks": figures["checks"],
                        "specificity": _paired(
                            {(row, 0): value for row, value in specificities.get(own.name, {}).items()},
                            {(row, 0): value for row, value in specificities.get(other.name, {}).items()},
                            draws,
                        ),
                    }
                )
        return found


def _paired(first: Mapping[ItemKey, float], second: Mapping[ItemKey, float], draws: Draws) -> dict[str, Any]:
    """Mean of the first minus mean of the second, over what both have, instructions drawn for both together."""
    keys = [key for key in first if key in second]
    rows = [key[0] for key in keys]
    return draws.difference([first[key] for key in keys], rows, [second[key] for key in keys], rows)


def _differences(scores: Mapping[str, Mapping[ItemKey, float]], draws: Draws) -> list[dict[str, Any]]:
    """Overall score of each candidate minus that of each later one, over the items that both have, instructions drawn
    together."""
    return [
        {"first": first, "second": second, **_paired(scores[first], scores[second], draws)}
        for first, second in combinations(scores, 2)
    ]


def _simulated(spec: JobSpec, facts: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """What of the evaluation is simulated, or a trial with random weights."""
    found = set()
    if facts.get("judge_is_simulator"):
        found.add("judge")
    if facts.get("teacher_is_simulator") or facts.get("asked_is_simulated"):
        found.add("data")
    for answer in spec.answer:
        model = known.get(answer.name, {})
        if model.get("simulator"):
            found.add(f"candidate {answer.name}")
        if model.get("random_weights"):
            found.add(f"candidate {answer.name} (random weights)")
    return found
