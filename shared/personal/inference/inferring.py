"""Preferences proposed from choices, with an estimate of how well they predict choices that they were not learned from.

Everything is chosen inside the folds: columns are selected and weighed on the prompts of the other folds, and the choices of the
fold are then predicted. What is proposed is selected on all choices by the same rule, and only what half of the folds found too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from shared.domain.profiles import MAXIMUM_PREFERENCES
from shared.domain.prose import words
from shared.personal.inference.choices import Choice, prompt_groups
from shared.personal.inference.columns import Column
from shared.personal.inference.report import (
    Evidence,
    InferenceReport,
    JudgeReading,
    ProposedPreference,
    ShareView,
    Verdict,
)
from shared.personal.inference.selecting import Flags, Selected, select, weights_of
from shared.personal.resolving import contradiction
from shared.statistics.intervals import Codes, Interval, Numbers, clipped, cluster_mean_interval

LEAST_PROMPTS = 20
"""Below that a held-out accuracy says nothing: its interval is wider than 0.4."""
PROMPTS_PER_PREFERENCE = 10
LEAST_SHARE_OF_FOLDS = 0.5
EXAMPLES_FOR, EXAMPLES_AGAINST = 5, 3
DEFAULT_HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class _Evaluation:
    """What a set of columns predicts. `outcomes`: 1 right, 0 wrong, 0.5 undecided, for each choice while it was held out."""

    columns: list[Column]
    selected: list[Selected]
    weights: Numbers
    folds_found: Numbers
    outcomes: Numbers
    accuracy: Interval
    folds: int


def infer(
    choices: Sequence[Choice],
    columns: Sequence[Column],
    *,
    held_out_share: float = DEFAULT_HELD_OUT_SHARE,
    seed: int = 0,
    judge: JudgeReading | None = None,
) -> InferenceReport:
    """The report on the choices of one person. `columns` hold a value for each choice, as `program_columns` and
    `judge_columns` make them; `held_out_share` is that of one fold. The same arguments give the same report.

    Takes seconds for thousands of choices: call it on a thread.
    """
    kept = [number for number, choice in enumerate(choices) if choice.chosen.strip() != choice.rejected.strip()]
    groups = np.array(prompt_groups(choices), dtype=np.int64)[kept]
    prompts = len(np.unique(groups))
    looked_at = len(columns)
    report = InferenceReport(
        choices=len(choices),
        prompts=prompts,
        alike=len(choices) - len(kept),
        looked_at=looked_at,
        folds=0,
        accuracy=None,
        undecided=None,
        always_longer=None,
        better_than_length=None,
        judge=judge,
        verdict=Verdict(
            outcome="too_few",
            words=f"{prompts} different prompts are too few to learn from and to predict: give {LEAST_PROMPTS} or more. "
            "Nothing is proposed.",
        ),
        proposed=[],
    )
    if prompts < LEAST_PROMPTS:
        return report
    longer = np.array([_by_length(choices[number]) for number in kept])
    evidence = _Evidence(list(columns), kept, groups, held_out_share, seed)
    found = evidence.evaluate(list(range(len(columns))))
    return _judged(report, found, evidence, longer, groups, kept)


def _judged(
    report: InferenceReport,
    found: _Evaluation,
    evidence: "_Evidence",
    longer: Numbers,
    groups: Codes,
    kept: Sequence[int],
) -> InferenceReport:
    """The report with its figures and verdict."""
    always_longer = _share(longer, groups)
    by_length = longer if (always_longer.estimate or 0.0) >= 0.5 else 1 - longer
    of_length = _share(by_length, groups)

    def reported(evaluation: _Evaluation, verdict: Verdict, proposed: list[ProposedPreference]) -> InferenceReport:
        gain = _gain(evaluation.outcomes, by_length, groups)
        return report.model_copy(
            update={
                "folds": evaluation.folds,
                "accuracy": ShareView.of(evaluation.accuracy),
                "undecided": float((evaluation.outcomes == 0.5).mean()),
                "always_longer": ShareView.of(always_longer),
                "better_than_length": ShareView.of(gain),
                "verdict": verdict,
                "proposed": proposed,
            }
        )

    accuracy = found.accuracy
    if accuracy.low is None or accuracy.low <= 0.5:
        words_of_it = (
            f"On held-out choices {_percent(accuracy)} were predicted, which a coin might do as well. Either the choices "
            "follow nothing that was looked at, or they are too few. Nothing is proposed."
        )
        return reported(found, Verdict(outcome="no_better_than_chance", words=words_of_it), [])
    proposed = _proposals(found, kept)
    if not proposed:
        words_of_it = (
            f"{_percent(accuracy)} of held-out choices were predicted, but by other preferences in each fold: the choices do not "
            "tell which ones it is. Nothing is proposed."
        )
        return reported(found, Verdict(outcome="unstable", words=words_of_it), [])
    length_matters = of_length.low is not None and of_length.low > 0.5
    gain = _gain(found.outcomes, by_length, groups)
    all_length = all(found.columns[one.column].by_length for one in _stable(found))
    if all_length or not length_matters or (gain.low is not None and gain.low > 0):
        words_of_it = (
            f"{_percent(accuracy)} of held-out choices were predicted; a coin gets 50%, the longer answer each time "
            f"{_percent(always_longer)}."
        )
        return reported(found, Verdict(outcome="supported", words=words_of_it), proposed)
    alone = evidence.evaluate([number for number, column in enumerate(evidence.columns) if column.by_length])
    proposed = _proposals(alone, kept)
    if proposed and alone.accuracy.low is not None and alone.accuracy.low > 0.5:
        words_of_it = (
            "Where anything predicts held-out choices, the length of the answers alone does it as well "
            f"({_percent(of_length)} over all choices): only what the length says is proposed."
        )
        return reported(alone, Verdict(outcome="length_alone", words=words_of_it), proposed)
    words_of_it = (
        "Where anything predicts held-out choices, the length of the answers alone does it as well "
        f"({_percent(of_length)} over all choices), and no preference of the taxonomy says just that. Nothing is proposed."
    )
    return reported(found, Verdict(outcome="no_better_than_length", words=words_of_it), [])


class _Evidence:
    """Columns over the choices that count, and which of them cannot stand together."""

    def __init__(
        self, columns: list[Column], kept: Sequence[int], groups: Codes, held_out_share: float, seed: int
    ) -> None:
        self.columns = columns
        self._groups = groups
        self._values = (
            np.stack([column.values[kept] for column in columns], axis=1) if columns else np.zeros((len(kept), 0))
        )
        self._folds = min(max(2, round(1 / held_out_share)), len(np.unique(groups)))
        self._seed = seed
        self._excluded: dict[int, Flags] = {}

    def evaluate(self, usable: Sequence[int]) -> _Evaluation:
        """Selection on all choices, and what selection by the same rule predicts of those it did not see."""
        from sklearn.model_selection import (
            GroupKFold,  # 50 MB that the api's process need not hold before somebody infers
        )

        values, groups = self._values, self._groups
        outcomes = np.full(len(values), 0.5)
        times_found = np.zeros(len(self.columns))
        splitter = GroupKFold(n_splits=self._folds, shuffle=True, random_state=self._seed)
        for fold, (train, test) in enumerate(splitter.split(values, groups=groups)):
            entered = [one.column for one in self._select(train, usable, fold + 1)]
            times_found[entered] += 1
            if entered:
                margins = values[np.ix_(test, entered)] @ weights_of(values[np.ix_(train, entered)])
                outcomes[test] = np.where(np.abs(margins) < 1e-9, 0.5, (margins > 0).astype(np.float64))
        selected = self._select(np.arange(len(values)), usable, 0)
        return _Evaluation(
            columns=self.columns,
            selected=selected,
            weights=weights_of(values[:, [one.column for one in selected]]),
            folds_found=times_found / self._folds,
            outcomes=outcomes,
            accuracy=_share(outcomes, groups),
            folds=self._folds,
        )

    def _select(self, rows: Codes, usable: Sequence[int], draw: int) -> list[Selected]:
        usable_codes = np.array(usable, dtype=np.int64)
        groups = self._groups[rows]
        found = select(
            self._values[np.ix_(rows, usable_codes)],
            groups,
            lambda column: self._excludes(usable[column])[usable_codes],
            min(MAXIMUM_PREFERENCES, len(np.unique(groups)) // PROMPTS_PER_PREFERENCE),
            self._seed * 1000 + draw,
        )
        return [Selected(usable[one.column], one.chance) for one in found]

    def _excludes(self, number: int) -> Flags:
        """Of each column, whether its preference repeats or contradicts that of column `number`."""
        if number not in self._excluded:
            taken = self.columns[number]
            self._excluded[number] = np.array(
                [
                    column.stated == taken.stated or contradiction(column.wish, taken.wish) is not None
                    for column in self.columns
                ],
                dtype=bool,
            )
        return self._excluded[number]


def _stable(evaluation: _Evaluation) -> list[Selected]:
    least = ceil(LEAST_SHARE_OF_FOLDS * evaluation.folds) / evaluation.folds - 1e-9
    return [one for one in evaluation.selected if evaluation.folds_found[one.column] >= least]


def _proposals(evaluation: _Evaluation, kept: Sequence[int]) -> list[ProposedPreference]:
    """The stable ones, heaviest first."""
    weights = {one.column: float(weight) for one, weight in zip(evaluation.selected, evaluation.weights, strict=True)}
    stable = sorted(_stable(evaluation), key=lambda one: -weights[one.column])
    return [
        _proposal(
            evaluation.columns[one.column],
            kept,
            weight=weights[one.column],
            chance=one.chance,
            folds=float(evaluation.folds_found[one.column]),
        )
        for one in stable
        if weights[one.column] > 0
    ]


def _proposal(column: Column, kept: Sequence[int], *, weight: float, chance: float, folds: float) -> ProposedPreference:
    wish = column.wish
    assert wish.subdimension is not None
    assert wish.pole is not None
    values = column.values[kept]
    strongest = np.argsort(-np.abs(values), kind="stable")
    return ProposedPreference(
        preference=column.stated,
        subdimension=wish.subdimension.name,
        pole=wish.pole.name,
        description=" ".join(part for part in (wish.text, wish.sentence) if part),
        evidence=Evidence(
            source=column.source,
            chosen_follows=int((values > 0).sum()),
            rejected_follows=int((values < 0).sum()),
            silent=int((values == 0).sum()),
            weight=round(weight, 3),
            chance=chance,
            folds=folds,
            examples_for=[kept[row] for row in strongest if values[row] > 0][:EXAMPLES_FOR],
            examples_against=[kept[row] for row in strongest if values[row] < 0][:EXAMPLES_AGAINST],
        ),
    )


def _by_length(choice: Choice) -> float:
    """1 where the chosen answer is the longer one, in words, then in characters; 0.5 where they are as long."""
    chosen, rejected = ((len(words(text)), len(text)) for text in (choice.chosen, choice.rejected))
    return 0.5 if chosen == rejected else float(chosen > rejected)


def _share(outcomes: Numbers, groups: Codes) -> Interval:
    return clipped(cluster_mean_interval(outcomes, groups), 0.0, 1.0)


def _gain(outcomes: Numbers, by_length: Numbers, groups: Codes) -> Interval:
    """How much more is predicted than by length, where anything is: for the rest the preferences claim nothing."""
    spoken_to = outcomes != 0.5
    return cluster_mean_interval((outcomes - by_length)[spoken_to], groups[spoken_to])


def _percent(interval: Interval) -> str:
    if interval.estimate is None:
        return "none"
    if interval.low is None or interval.high is None:
        return f"{interval.estimate:.0%}"
    return f"{interval.estimate:.0%} (95% interval {interval.low:.0%} to {interval.high:.0%})"
