"""What web pages and the terminal say of an evaluation (the document in `evaluation.json`): who leads, by how much, how sure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from shared.charts import Figure, best_of_lines, dimension_radar, interval_dots, win_matrix

LOWEST, HIGHEST = 1.0, 5.0
"""Ends of the scale of absolute grades."""
_AROUND = 0.1
_AROUND_SHARES = (-0.02, 1.02)


class Column(msgspec.Struct, frozen=True):
    """One kind of figure: `path` leads to its interval in a candidate's record, `form` is how a number is written."""

    title: str
    path: tuple[str, ...]
    form: str
    explained: str


class Cell(msgspec.Struct, frozen=True):
    """A figure in words: the estimate, and the interval where one can be stated."""

    estimate: str
    interval: str


class Row(msgspec.Struct, frozen=True):
    """One candidate; `cells` in the order of the leaderboard's columns."""

    name: str
    models: list[str]
    system: str
    cells: list[Cell]


class Leaderboard(msgspec.Struct, frozen=True):
    """Candidates, the best first by grades, else by ratings of conversations, else by machine checks."""

    columns: list[Column]
    rows: list[Row]


_COLUMNS = (
    Column("Score", ("absolute", "overall"), ".2f", "1 to 5: how well answers follow their person, by rubrics"),
    Column(
        "Specificity",
        ("absolute", "specificity", "specificity"),
        ".3f",
        "-1 to 1: how much better answers serve the person they were written for than another",
    ),
    Column("Win rate", ("pairwise", "win_rate"), ".1%", "against the baseline; ties count half"),
    Column("Win rate, length-controlled", ("pairwise", "length_controlled"), ".1%", "what it would be at equal length"),
    Column("Verdicts that flip", ("pairwise", "flip_rate"), ".1%", "pairs whose verdict changes with their order"),
    Column("Rating", ("conversation", "overall"), ".2f", "1 to 10: conversations, over all turns"),
    Column("Checks passed", ("checks", "passed"), ".1%", "machine checks of preferences that could be measured"),
    Column("Pairs won by reward", ("rewards", "accuracy"), ".1%", "the preferred answer has the higher reward"),
    Column("Toxicity, expected maximum", ("measure", "expected_maximum_toxicity"), ".3f", "0 to 1, over prompts"),
    Column("Toxicity, probability", ("measure", "toxicity_probability"), ".1%", "prompts with a toxic answer"),
    Column("Perplexity", ("measure", "perplexity"), ".1f", "of the answers, by the fluency model"),
    Column("Likeness", ("diversity", "rouge_l"), ".3f", "0 to 1: of the answers to different people"),
    Column("Words", ("words", "mean"), ".0f", "of an answer"),
)


def leaderboard(evaluation: Mapping[str, Any]) -> Leaderboard:
    """The candidates with every kind of figure that one of them has."""
    candidates: Sequence[Mapping[str, Any]] = evaluation["candidates"]
    columns = [column for column in _COLUMNS if any(_known(one, column.path) for one in candidates)]
    return Leaderboard(
        columns=columns,
        rows=[
            Row(
                str(one["name"]),
                [str(model) for model in one["models"]],
                str(one["system"]),
                [cell_of(_at(one, column.path), column.form) for column in columns],
            )
            for one in sorted(candidates, key=place)
        ],
    )


def place(candidate: Mapping[str, Any]) -> tuple[int, float, str]:
    """Sort key of a candidate, the best first; one without any figure comes last."""
    for part in (("absolute", "overall"), ("conversation", "overall"), ("checks", "passed")):
        if _known(candidate, part):
            return 0, -float(_at(candidate, part)["estimate"]), str(candidate["name"])
    return 1, 0.0, str(candidate["name"])


def cell_of(figure: Mapping[str, Any] | None, form: str) -> Cell:
    """A figure in words; an estimate that is not known is a dash."""
    if figure is None or figure["estimate"] is None:
        return Cell("–", "")
    low, high = figure["low"], figure["high"]
    interval = "" if low is None or high is None else f"{format(low, form)} to {format(high, form)}"
    return Cell(format(figure["estimate"], form), interval)


def differences(evaluation: Mapping[str, Any]) -> list[tuple[str, Cell, bool]]:
    """Score of one candidate minus that of another: who, how much, and whether the interval leaves out zero."""
    found = []
    for one in evaluation["differences"]:
        sure = one["low"] is not None and one["high"] is not None and (one["low"] > 0 or one["high"] < 0)
        found.append((f"{one['first']} − {one['second']}", cell_of(one, "+.2f"), sure))
    return found


def evaluation_charts(evaluation: Mapping[str, Any]) -> dict[str, Figure]:
    """Figures by name, one without data left out: `dimensions`, `radar`, `sources`, `levels`, `checks`, `wins`, `best_of`."""
    candidates: Sequence[Mapping[str, Any]] = evaluation["candidates"]
    graded = [one for one in candidates if "absolute" in one and one["absolute"]["items_scored"]]
    found: dict[str, Figure] = {}
    for part in ("dimensions", "sources", "levels"):
        series = [{"name": one["name"], "values": _named(one["absolute"][part])} for one in graded]
        if any(len(line["values"]) > 1 for line in series) or (part == "dimensions" and graded):
            found[part] = interval_dots(series, "score, 1 to 5", scale=(LOWEST - _AROUND, HIGHEST + _AROUND))
        if part == "dimensions" and any(len(line["values"]) > 2 for line in series):
            found["radar"] = dimension_radar(series, (LOWEST, HIGHEST))
    checked = [{"name": one["name"], "values": one["checks"]["kinds"]} for one in candidates if one["checks"]["kinds"]]
    if checked:
        found["checks"] = interval_dots(checked, "checks passed", scale=_AROUND_SHARES, percent=True)
    if rates := _rates(evaluation):
        found["wins"] = win_matrix([one["name"] for one in candidates], rates)
    curves = [
        {"name": one["name"], "values": one["rewards"]["best_of"]}
        for one in candidates
        if one["rewards"] and len(one["rewards"]["best_of"]) > 1
    ]
    if curves:
        found["best_of"] = best_of_lines(curves)
    return found


def _named(values: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """With a word for what has no name: the level of a row that no split looked at."""
    return [one if one["name"] else {**one, "name": "none"} for one in values]


CHART_TITLES = {
    "dimensions": "Score by dimension",
    "radar": "Dimensions at a glance",
    "sources": "Score by source",
    "levels": "Score by split level",
    "checks": "Machine checks by kind",
    "wins": "Who wins against whom",
    "best_of": "Best of n answers",
}


def unlike(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """What two evaluations did differently that figures rest on, in words; nothing where they can be compared as they are."""
    found = []
    for title, path in (
        ("the judge", ("judge",)),
        ("what was asked", ("configuration", "questions")),
        ("how it was graded", ("configuration", "evaluate")),
        ("the number of items", ("items",)),
        ("the code's version", ("configuration", "code_version")),
    ):
        if _at(first, path) != _at(second, path):
            found.append(title)
    return found


def _rates(evaluation: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    baseline = evaluation["baseline"]
    found: dict[tuple[str, str], float] = {}
    for one in evaluation["candidates"]:
        if _known(one, ("pairwise", "win_rate")):
            rate = one["pairwise"]["win_rate"]["estimate"]
            found[one["name"], baseline] = rate
            found[baseline, one["name"]] = 1 - rate
    return found


def _known(record: Mapping[str, Any], path: Sequence[str]) -> bool:
    figure = _at(record, path)
    return figure is not None and figure["estimate"] is not None


def _at(record: Mapping[str, Any], path: Sequence[str]) -> Any:
    """What lies at a path; None where a part of it is missing or null."""
    value: Any = record
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


_HEADLINES = {
    "score": ("score", ".2f"),
    "rating": ("rating", ".2f"),
    "win_rate": ("wins", ".0%"),
    "checks": ("checks", ".0%"),
}


def headlines(summary: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Each candidate with its first figures in a few words, from the summary of the stage `evaluate`."""
    for one in (summary or {}).get("candidates") or ():
        told = [
            f"{words} {format(one[key], form)}" for key, (words, form) in _HEADLINES.items() if one.get(key) is not None
        ]
        yield str(one["name"]), ", ".join(told)
