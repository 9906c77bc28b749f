"""Defects of released preference data, planted in rows of our exports: by seed, at stated shares.

Each function changes the rows it is given and returns how many of how many it could reach, which differs from the share asked for
by chance and where the data has nothing to plant it in.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from statistics import quantiles
from typing import Any, Literal

import msgspec

from shared.domain.checks import evaluate, find_checks
from shared.domain.taxonomy import default_taxonomy

Row = dict[str, Any]
Export = Literal["sft", "dpo"]


class Splits(msgspec.Struct):
    """Rows of the two files of an export; `keeps_provenance` is whether a provenance file is written beside."""

    train: list[Row]
    test: list[Row]
    keeps_provenance: bool = True

    @property
    def rows(self) -> list[Row]:
        return [*self.train, *self.test]


class Planted(msgspec.Struct, frozen=True):
    changed: int
    reachable: int


Plant = Callable[[Splits, float, random.Random], Planted]


class Defect(msgspec.Struct, frozen=True):
    """What is planted in which export, in what share of `unit`, and the measures that are to find it."""

    name: str
    export: Export
    share: float
    unit: str
    measures: tuple[str, ...]
    plant: Plant


def split_keywords(splits: Splits, share: float, chance: random.Random) -> Planted:
    """An entry's keywords are cut in two, and both halves stand as entries with the same description."""

    def change(row: Row) -> None:
        entries = row["preference_set"]
        at = chance.randrange(len(entries))
        words = entries[at]["preference"].split()
        half = max(len(words) // 2, 1)
        first, second = " ".join(words[:half]), " ".join(words[half:]) or "the like"
        entries[at : at + 1] = [{**entries[at], "preference": first}, {**entries[at], "preference": f"and {second}"}]

    return _some([row for row in splits.rows if row["preference_set"]], share, chance, change)


def one_order(splits: Splits, share: float, chance: random.Random) -> Planted:
    """Entries stand in alphabetical order of their dimensions."""
    return _some(
        [row for row in splits.rows if row["preference_set"]],
        share,
        chance,
        lambda row: row["preference_set"].sort(key=lambda entry: str(entry["dimension"])),
    )


def careful_only(splits: Splits, share: float, chance: random.Random) -> Planted:
    """Harmlessness gives way to what a careful seed of the bundled taxonomy asks for."""
    careful = [
        (subdimension.name, seed)
        for dimension in default_taxonomy().dimensions
        for subdimension in dimension.subdimensions
        for pole in subdimension.poles
        for seed in subdimension.seeds
        if seed.pole == pole.name and pole.stance == "careful"
    ]
    entries = [
        entry for row in splits.rows for entry in row["preference_set"] if entry["dimension"].lower() == "harmlessness"
    ]

    def change(entry: Row) -> None:
        subdimension, seed = chance.choice(careful)
        entry.update(subdimension=subdimension, preference=seed.name, description=seed.description)

    return _some(entries, share, chance, change)


def foreign_keywords(splits: Splits, share: float, chance: random.Random) -> Planted:
    """The keywords of an entry speak of a subdimension of another dimension."""
    entries = [entry for row in splits.rows for entry in row["preference_set"]]
    names = sorted(
        {(entry["dimension"], entry["subdimension"]) for entry in entries if len(entry["subdimension"].split()) == 1}
    )

    def change(entry: Row) -> None:
        others = [name for dimension, name in names if dimension != entry["dimension"]]
        if others:
            entry["preference"] = f"{chance.choice(others)} above all"

    return _some(entries if len({dimension for dimension, _ in names}) > 1 else [], share, chance, change)


def one_shape(splits: Splits, share: float, chance: random.Random) -> Planted:
    """System messages begin with a role, are one paragraph, and are filled up or cut to one length."""
    rows = [row for row in splits.rows if row["system"]]
    if len(rows) < 2:
        return Planted(0, 0)
    beginning = "You are a helper who takes wishes seriously."
    length = int(quantiles((len(row["system"]) for row in rows), n=20)[-1]) + len(beginning)
    fill = [
        entry["description"]
        for row in rows
        for entry in row["preference_set"]
        if entry["description"] and not find_checks(entry["description"])
    ] or [beginning]

    def change(row: Row) -> None:
        lines = [re.sub(r"^\s*(?:[-*•]|\d+[.)])\s", "", line) for line in row["system"].splitlines()]
        text = " ".join([beginning, *lines])
        while len(text) < length:
            text = f"{text} {chance.choice(fill)}"
        row["system"] = " ".join(text[: max(length, text.find(" ", length))].split())

    return _some(rows, share, chance, change)


def contradictions(splits: Splits, share: float, chance: random.Random) -> Planted:
    """A system message demands brevity and an exhaustive answer."""

    def change(row: Row) -> None:
        row["system"] += " Keep the answer very brief. Give an exhaustive explanation."

    return _some([row for row in splits.rows if row["system"]], share, chance, change)


def swapped_answers(splits: Splits, share: float, chance: random.Random) -> Planted:
    """Each answer of an instruction stands under the next sibling's system message."""

    def change(siblings: list[Row]) -> None:
        answers = [row["output"] for row in siblings]
        for row, answer in zip(siblings, [*answers[1:], answers[0]], strict=True):
            row["output"] = answer

    return _some(_families(splits), share, chance, change)


def same_answers(splits: Splits, share: float, chance: random.Random) -> Planted:
    """All system messages of an instruction get the answer of the first."""

    def change(siblings: list[Row]) -> None:
        for row in siblings:
            row["output"] = siblings[0]["output"]

    return _some(_families(splits), share, chance, change)


def repeated_openings(splits: Splits, share: float, chance: random.Random) -> Planted:
    """Answers begin with the same sentence."""

    def change(row: Row) -> None:
        row["output"] = f"Certainly, here is what you asked for. {row['output']}"

    return _some(splits.rows, share, chance, change)


def one_character(splits: Splits, share: float, chance: random.Random) -> Planted:
    """Answers are a full stop."""
    return _some(splits.rows, share, chance, lambda row: row.update(output="."))


def no_provenance(splits: Splits, share: float, chance: random.Random) -> Planted:  # noqa: ARG001 (as the others)
    """The provenance file is not written."""
    splits.keeps_provenance = False
    return Planted(len(splits.rows), len(splits.rows))


def test_in_train(splits: Splits, share: float, chance: random.Random) -> Planted:
    """Rows of test instructions stand in the training file too; the share is of the training instructions."""
    held = sorted({row["prompt"] for row in splits.test})
    training = len({row["prompt"] for row in splits.train})
    taken = set(chance.sample(held, min(len(held), max(1, round(share * training)))) if held else ())
    splits.train += [deepcopy(row) for row in splits.test if row["prompt"] in taken]
    return Planted(len(taken), training)


def chosen_longer(splits: Splits, share: float, chance: random.Random) -> Planted:
    """Of a pair and its mirror one is kept: in `share` of them that whose chosen answer is longer, else the other."""
    changed = reachable = 0
    for name in ("train", "test"):
        rows: list[Row] = getattr(splits, name)
        places = {(row["prompt"], _said(row, "chosen"), _said(row, "rejected")): at for at, row in enumerate(rows)}
        dropped = set()
        for (prompt, chosen, rejected), at in places.items():
            mirror = places.get((prompt, rejected, chosen))
            if mirror is None or mirror < at:
                continue
            longer = at if len(chosen.split()) >= len(rejected.split()) else mirror
            keeps = chance.random() < share
            dropped.add(at + mirror - longer if keeps else longer)
            changed += keeps
            reachable += 1
        setattr(splits, name, [row for at, row in enumerate(rows) if at not in dropped])
    return Planted(changed, reachable)


def rejected_passes(splits: Splits, share: float, chance: random.Random) -> Planted:
    """The rejected answer gives way to one that passes all checks of the system message: a shorter one of a sibling, else
    the chosen one without a sentence or a word."""
    answers: dict[str, set[str]] = {}
    for row in splits.rows:
        answers.setdefault(row["prompt"], set()).update((_said(row, "chosen"), _said(row, "rejected")))

    def change(row: Row) -> bool:
        checks, chosen = find_checks(row["system"]), _said(row, "chosen")
        shorter = [text for text in sorted(answers[row["prompt"]]) if len(text.split()) < len(chosen.split())]
        for text in (*chance.sample(shorter, len(shorter)), *_without_a_part(chosen)):
            if text.strip() and all(evaluate(check, text).outcome != "fail" for check in checks):
                row["rejected"][-1]["content"] = text
                return True
        return False

    return _some([row for row in splits.rows if find_checks(row["system"])], share, chance, change)


def _without_a_part(text: str) -> Iterator[str]:
    """The text without one of its sentences, from the last on, then without one of its words."""
    for part in (r"[^.!?\n]+[.!?]?", r"\S+ "):
        for found in reversed(list(re.finditer(part, text))):
            yield text[: found.start()] + text[found.end() :]


DEFECTS = (
    Defect("keywords split in two", "sft", 0.3, "sets", ("split_keywords",), split_keywords),
    Defect("harmlessness only careful", "sft", 1.0, "harmlessness entries", ("less_caution",), careful_only),
    Defect("keywords of another dimension", "sft", 0.4, "entries", ("foreign_style",), foreign_keywords),
    Defect("entries in one order", "sft", 0.95, "sets", ("position_dimension",), one_order),
    Defect(
        "system messages of one length and shape",
        "sft",
        0.97,
        "system messages",
        ("system_length_variation", "system_shape"),
        one_shape,
    ),
    Defect("contradictory demands", "sft", 0.2, "system messages", ("contradictions",), contradictions),
    Defect("answers swapped between siblings", "sft", 0.4, "instructions", ("failed_checks",), swapped_answers),
    Defect("one answer for all siblings", "sft", 0.3, "instructions", ("same_answers",), same_answers),
    Defect("repeated opening", "sft", 0.6, "answers", ("output_openings",), repeated_openings),
    Defect("answers of one character", "sft", 0.03, "answers", ("one_character_answers",), one_character),
    Defect("test instructions in train", "sft", 0.1, "training instructions", ("train_test_overlap",), test_in_train),
    Defect("provenance dropped", "sft", 1.0, "rows", ("missing_provenance",), no_provenance),
    Defect(
        "one order only, the longer answer chosen",
        "dpo",
        0.9,
        "pairs",
        ("mirrored_pairs", "chosen_longer", "blind_classifier"),
        chosen_longer,
    ),
    Defect("rejected answers that pass", "dpo", 0.9, "pairs with checks", ("rejected_passes",), rejected_passes),
)
"""In the order in which they are planted: what a later one changes must not undo an earlier one."""

_Item = Any


def _some(items: Sequence[_Item], share: float, chance: random.Random, change: Callable[[_Item], Any]) -> Planted:
    """Changes so many of the items; `change` returns False where it found no way."""
    chosen = [item for item in items if chance.random() < share]
    return Planted(sum(change(item) is not False for item in chosen), len(items))


def _families(splits: Splits) -> list[list[Row]]:
    """Rows of each instruction that has several."""
    found: dict[str, list[Row]] = {}
    for row in splits.rows:
        found.setdefault(row["prompt"], []).append(row)
    return [rows for rows in found.values() if len(rows) > 1]


def _said(row: Row, side: str) -> str:
    return str(row[side][-1]["content"])
