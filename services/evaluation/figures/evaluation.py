"""All figures of an evaluation as one document: what `evaluation.json` holds."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from services.evaluation.figures.absolute import Grades, absolute_figures, gather_grades, item_scores
from services.evaluation.figures.checks import check_figures
from services.evaluation.figures.completeness import completeness, judge_flags
from services.evaluation.figures.conversations import conversation_figures
from services.evaluation.figures.diversity import diversity_figures, length_figures
from services.evaluation.figures.gathering import Answered, ItemKey, gather_answers
from services.evaluation.figures.measures import measure_figures
from services.evaluation.figures.pairwise import Battles, gather_battles, pairwise_figures, rating_figures
from services.evaluation.figures.rewards import reward_figures
from services.evaluation.figures.robustness import robustness_figures
from services.evaluation.figures.told import EVALUATION_SCHEMA_VERSION, Draws
from shared.domain.answers import AnswerParameters
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
        candidates = [self._candidate(one, evaluate, inputs, draws) for one in spec.answer]
        items = {key: item for found in self.answered.values() for key, item in found.items.items()}
        self.items = dict(sorted(items.items()))
        self.scores: dict[str, dict[ItemKey, float]] = {
            name: item_scores(found.grades) for name, found in self.grades.items()
        }
        ratings = None
        if evaluate.pairwise is not None:
            battles = [battle for found in self.battles.values() for battle in found.battles]
            ratings = rating_figures(battles, evaluate.pairwise.baseline, draws)
        known: Mapping[str, Mapping[str, Any]] = facts.get("answer_models") or {}
        self.document: dict[str, Any] = {
            "schema_version": EVALUATION_SCHEMA_VERSION,
            "job_id": facts.get("job_id"),
            "name": spec.name,
            "judge": None if spec.judge is None or not evaluate.needs_judge else spec.judge.model_dump(),
            "simulated": sorted(_simulated(spec, facts, known)),
            "flags": judge_flags(spec, facts),
            "completeness": completeness(spec, self.answered, candidates),
            "instructions": len({row for row, _ in self.items}),
            "items": len(self.items),
            "candidates": candidates,
            "differences": _differences(self.scores, draws),
            "system_messages": _system_messages(spec.answer, self.scores, draws),
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
            "checks": check_figures(inputs, name, draws),
            "rewards": reward_figures(inputs, answer, draws),
            "robustness": robustness_figures(inputs, name, draws),
        }
        if evaluate.absolute is not None:
            self.grades[name] = gather_grades(inputs, name, words)
            record["absolute"] = absolute_figures(self.grades[name], words, draws)
        if evaluate.conversation is not None:
            record["conversation"] = conversation_figures(inputs, name, draws)
        if evaluate.measure is not None:
            record["measure"] = measure_figures(inputs, name, evaluate.measure, draws)
        if evaluate.pairwise is not None and name != evaluate.pairwise.baseline:
            self.battles[name] = gather_battles(inputs, name, evaluate.pairwise.baseline, self.words)
            record["pairwise"] = pairwise_figures(self.battles[name], draws)
        return record


def _differences(scores: Mapping[str, Mapping[ItemKey, float]], draws: Draws) -> list[dict[str, Any]]:
    """Overall score of each candidate minus that of each later one, over the items that both have, instructions drawn
    together."""
    found = []
    for first, second in combinations(scores, 2):
        keys = [key for key in scores[first] if key in scores[second]]
        rows = [key[0] for key in keys]
        one, two = ([scores[name][key] for key in keys] for name in (first, second))
        found.append({"first": first, "second": second, **draws.difference(one, rows, two, rows)})
    return found


def _system_messages(
    answers: Sequence[AnswerParameters], scores: Mapping[str, Mapping[ItemKey, float]], draws: Draws
) -> list[dict[str, Any]]:
    """Of models that answered with and without their system message, or under another person's: score with it minus score
    without. Models are the same where their candidates and decoding are."""
    found = []
    for own in answers:
        for other in answers:
            same = (own.candidate, own.decoding) == (other.candidate, other.decoding)
            if own.system != "own" or other.system == "own" or not same or not {own.name, other.name} <= scores.keys():
                continue
            keys = [key for key in scores[own.name] if key in scores[other.name]]
            rows = [key[0] for key in keys]
            one, two = ([scores[name][key] for key in keys] for name in (own.name, other.name))
            found.append(
                {"own": own.name, "other": other.name, "system": other.system, **draws.difference(one, rows, two, rows)}
            )
    return found


def _simulated(spec: JobSpec, facts: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """What of the evaluation is simulated, or a trial with random weights."""
    found = set()
    if facts.get("judge_is_simulator"):
        found.add("judge")
    if facts.get("teacher_is_simulator"):
        found.add("data")
    for answer in spec.answer:
        model = known.get(answer.name, {})
        if model.get("simulator"):
            found.add(f"candidate {answer.name}")
        if model.get("random_weights"):
            found.add(f"candidate {answer.name} (random weights)")
    return found
