"""What the report says of a job's answers: per candidate how much it answered, how long, how it ended, and what rewards say."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from shared.artifacts.tables import iterate_rows
from shared.domain.answers import AnswerParameters
from shared.domain.jobs import JobSpec
from shared.domain.ledger import Ledger
from shared.stages.protocol import InputObject
from shared.statistics.best_of import expected_best
from shared.statistics.intervals import Interval, cluster_mean_interval

BEST_OF = (1, 4, 16, 64)
"""Numbers of answers of which the best is told: the paper's, as far as there are so many."""


class _Counted:
    """Figures of one answer stage, row by row."""

    def __init__(self, parameters: AnswerParameters) -> None:
        self.parameters = parameters
        self.sizes = sorted({n for n in BEST_OF if n <= parameters.samples} | {parameters.samples})
        self.rows = self.questions = self.answers = self.short = 0
        self.ends: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.tokens: list[float] = []
        self.token_rows: list[str] = []
        self.rewards: list[float] = []
        self.reward_rows: list[str] = []
        self.best: dict[int, list[float]] = {n: [] for n in self.sizes}
        self.best_rows: list[str] = []

    def read(self, item: InputObject, stage: str) -> None:
        for row in iterate_rows(item.path):
            self.rows += 1
            for facet in row.facets:
                self.questions += 1
                self.models.update(f"{made.provider}/{made.model}" for made in facet.provenance if made.stage == stage)
                scores = []
                for answer in facet.answers:
                    self.answers += 1
                    if answer.fault:
                        self.faults[answer.fault] += 1
                        if answer.fault != "not_scored":
                            continue
                    self.ends[answer.finish_reason] += 1
                    self.tokens.append(answer.tokens)
                    self.token_rows.append(row.row_id)
                    if answer.reward is not None:
                        scores.append(answer.reward)
                self.rewards += scores
                self.reward_rows += [row.row_id] * len(scores)
                if scores:
                    self.short += len(scores) < self.parameters.samples
                    self.best_rows.append(row.row_id)
                    for n in self.sizes:
                        self.best[n].append(expected_best(scores, n))

    def record(self, ledger: Ledger, notes: Sequence[str]) -> dict[str, Any]:
        parameters = self.parameters
        texts = sum(self.ends.values())
        return {
            "name": parameters.name,
            "candidate": choice_text(parameters.candidate),
            "models": [name for name, _ in self.models.most_common()],
            "reward": None if parameters.reward is None else choice_text(parameters.reward),
            "decoding": decoding_text(parameters),
            "rows": self.rows,
            "questions": self.questions,
            "samples": parameters.samples,
            "answers": self.answers,
            "rejected": ledger.facets_rejected,
            "rejected_share": ledger.facets_rejected / ledger.facets_in if ledger.facets_in else 0.0,
            "reasons": sorted(ledger.reasons.items(), key=lambda item: (-item[1], item[0])),
            "faults": self.faults.most_common(),
            "ends": [{"name": name, "share": count / texts} for name, count in self.ends.most_common()],
            "tokens": _told(cluster_mean_interval(self.tokens, self.token_rows)),
            "mean_reward": _told(cluster_mean_interval(self.rewards, self.reward_rows)) if self.rewards else None,
            "best_of": [
                {"n": n, **_told(cluster_mean_interval(self.best[n], self.best_rows))}
                for n in self.sizes
                if self.rewards and parameters.samples > 1
            ],
            "short": self.short,
            "notes": list(notes),
        }


def answers(
    inputs: Sequence[InputObject], spec: JobSpec, ledgers: Mapping[str, Ledger], facts: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """One record per answer stage for the template, in the order of the spec. Intervals are clustered by instruction.

    `facts` are the control plane's; its `answer_models` tell what is known of the models, by how the spec names them.
    """
    records = []
    for parameters in spec.answer:
        parts = [item for item in inputs if item.stage == parameters.name and item.name.startswith("part-")]
        counted = _Counted(parameters)
        for item in sorted(parts, key=lambda item: item.name):
            counted.read(item, parameters.name)
        if counted.rows:
            notes = _notes(parameters, facts)
            records.append(counted.record(ledgers.get(parameters.name, Ledger()), notes))
    return records


def choice_text(choice: Any) -> str:
    """A candidate or reward model, as the spec names it."""
    if choice.stage is not None:
        return f"{choice.stage} (trained by this job)"
    if choice.registry is not None:
        return f"registered model {choice.registry}"
    if choice.deployment is not None:
        return f"deployment {choice.deployment}"
    if getattr(choice, "file", None) is not None:
        return f"answers of file {choice.file}"
    if getattr(choice, "given", False):
        return "answers that the questions bring along"
    return f"{choice.provider}/{choice.model}"


def decoding_text(parameters: AnswerParameters) -> str:
    decoding = parameters.decoding
    how = "greedy" if decoding.greedy else f"temperature {decoding.temperature:g}, top-p {decoding.top_p:g}"
    penalty = "none" if decoding.repetition_penalty is None else f"{decoding.repetition_penalty:g}"
    if parameters.candidate.exists:
        return "answers that existed already"
    system = {
        "own": "its own system message",
        "none": "no system message",
        "shuffled": "another person's system message",
    }[parameters.system]
    return f"{how}, at most {decoding.max_tokens:,} tokens, repetition penalty {penalty}; {system}"


def _told(interval: Interval) -> dict[str, Any]:
    return {"estimate": interval.estimate, "low": interval.low, "high": interval.high}


def _notes(parameters: AnswerParameters, facts: Mapping[str, Any]) -> list[str]:
    """What a reader must know of the models before believing a figure."""
    notes = []
    known: Mapping[str, Mapping[str, Any]] = facts.get("answer_models") or {}
    candidate = known.get(parameters.name, {})
    reward = known.get(f"{parameters.name}:reward", {})
    for what, model in (("The candidate", candidate), ("The reward model", reward)):
        if model.get("simulator"):
            notes.append(f"{what} is a simulator: its texts were made up by a program and say nothing about quality.")
        if model.get("random_weights"):
            notes.append(
                f"{what} started from random weights: it is a trial, and its figures say nothing about quality."
            )
        if model.get("simulated_data"):
            notes.append(f"{what} was trained on texts of the simulator, which no language model wrote.")
    return notes
