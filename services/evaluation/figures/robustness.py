"""The robustness suites: right answers under preferences, rules that a user contradicts, wishes that must hold over many turns.

A question of a suite is right where the answer passes all of the question's own checks (`Facet.checks`). What a facet stands
for, such as `none`, `relevant` and `irrelevant` preferences, is its `system_form`.
"""

from collections.abc import Sequence
from typing import Any

from services.evaluation.figures.gathering import item_of, rows_of
from services.evaluation.figures.told import Draws
from shared.domain.checks import evaluate
from shared.domain.judged_answers import best_answer
from shared.domain.rows import Check
from shared.stages.protocol import InputObject

WITHOUT = "none"
"""The condition that breakage is measured from: no preferences."""


def robustness_figures(inputs: Sequence[InputObject], candidate: str, draws: Draws) -> list[dict[str, Any]]:
    """One record per suite: `conditions` and `categories` with the share right, `breakage` (share right without preferences minus
    with those of each condition, paired by question) and `turns` (share right of each turn of a conversation)."""
    seen: dict[str, _Suite] = {}
    for row in rows_of(inputs, candidate):
        for facet in row.facets:
            suite = item_of(row, facet).suite
            answer = best_answer(facet)
            if not suite or not facet.checks:
                continue
            found = seen.setdefault(suite, _Suite())
            if answer is None:
                found.missing += 1
                continue
            for turn, text in enumerate([answer.text, *answer.later]):
                found.add(row.row_id, facet.system_form or "", row.category, turn, holds(facet.checks, text))
    return [{"name": name, **seen[name].figures(draws)} for name in sorted(seen)]


def holds(checks: Sequence[Check], text: str) -> bool:
    """Whether a text passes all checks that can be measured on it, one at least."""
    outcomes = [evaluate(check, text).outcome for check in checks]
    return "pass" in outcomes and "fail" not in outcomes


class _Suite:
    """Outcomes of one suite, observation by observation."""

    def __init__(self) -> None:
        self.right: list[float] = []
        self.rows: list[str] = []
        self.conditions: list[str] = []
        self.categories: list[str] = []
        self.turns: list[int] = []
        self.missing = 0

    def add(self, row: str, condition: str, category: str, turn: int, is_right: bool) -> None:
        self.right.append(float(is_right))
        self.rows.append(row)
        self.conditions.append(condition)
        self.categories.append(category)
        self.turns.append(turn)

    def figures(self, draws: Draws) -> dict[str, Any]:
        by_condition = draws.means(self.right, self.rows, self.conditions)
        by_category = draws.means(self.right, self.rows, self.categories)
        by_turn = draws.means(self.right, self.rows, self.turns)
        return {
            "right": draws.mean(self.right, self.rows),
            "conditions": [{"name": str(name), **by_condition[name]} for name in sorted(by_condition, key=str)],
            "categories": [{"name": str(name), **by_category[name]} for name in sorted(by_category, key=str)],
            "turns": [{"turn": turn, **figure} for turn, figure in by_turn.items()] if len(by_turn) > 1 else [],
            "breakage": [
                {"name": name, **self._breakage(name, draws)}
                for name in sorted(set(self.conditions) - {WITHOUT})
                if WITHOUT in self.conditions
            ],
            "missing": self.missing,
        }

    def _breakage(self, condition: str, draws: Draws) -> dict[str, Any]:
        def of(name: str) -> tuple[list[float], list[str]]:
            places = [place for place, one in enumerate(self.conditions) if one == name]
            return [self.right[place] for place in places], [self.rows[place] for place in places]

        return draws.difference(*of(WITHOUT), *of(condition))
