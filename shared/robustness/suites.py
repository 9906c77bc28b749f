"""The robustness suites as rows: the data beside this module, read and made into questions with checks.

Each suite is a YAML file of our own wording. `facts` asks the same question under no, relevant and irrelevant preferences;
`conflicts` has a user ask against a rule of the system message; `drift` goes on over several turns under one rule. What is right
is a machine check in `Facet.checks`, and what a facet stands for is its `system_form`.
"""

from importlib.resources import files
from typing import TypeVar

import msgspec
import yaml
from pydantic import BaseModel, ConfigDict, Field

from shared.domain.checks import canonical_sentence, validate_check
from shared.domain.evaluations import RobustnessSuite
from shared.domain.identifiers import row_id_of
from shared.domain.rows import Check, Facet, InstructionRow, Preference
from shared.domain.taxonomy import CheckTemplate

SUITE_TAG = "suite:"
"""How the tag of a row begins that names its suite."""
NONE, RELEVANT, IRRELEVANT = "none", "relevant", "irrelevant"
"""Conditions of `facts`: which preferences the question is asked under."""
SYSTEM, KEPT = "system", "kept"
"""The conditions of `conflicts` and of `drift`."""


class SuiteModel(BaseModel):
    """Base of all parts of a suite's file: unknown fields are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Wish(SuiteModel):
    """A preference, on a pole of the default taxonomy."""

    dimension: str
    subdimension: str
    pole: str
    preference: str
    description: str

    def preference_with(self, check: Check | None = None) -> Preference:
        return Preference(self.dimension, self.subdimension, self.preference, self.description, self.pole, check=check)


class Person(SuiteModel):
    """Someone who asks: names of their wishes, and the system message that states them."""

    wishes: tuple[str, ...] = Field(min_length=1)
    system: str = Field(min_length=1)


class Fact(SuiteModel):
    """A question with a short right answer that does not change with who asks."""

    category: str = Field(min_length=1, description="subject of the question")
    question: str = Field(min_length=1)
    accepted: tuple[str, ...] = Field(min_length=1, description="spellings of the right answer; one of them must stand")
    relevant: str = Field(description="name of the person whose wishes bear on how such an answer should be")
    irrelevant: str = Field(description="name of the person whose wishes have nothing to do with it")
    right: str = Field(min_length=1, description="an answer that passes")
    wrong: str = Field(min_length=1, description="an answer that fails")


class FactsFile(SuiteModel):
    wishes: dict[str, Wish]
    people: dict[str, Person]
    questions: tuple[Fact, ...] = Field(min_length=1)


class Ruled(SuiteModel):
    """A request, or a conversation, under one rule of the system message."""

    role: str = Field(min_length=1, description="how the system message begins; the rule's canonical sentence follows")
    rule: CheckTemplate
    wish: str = Field(description="name of the preference that the rule stands for")
    ask: str = Field(min_length=1, description="what the user says first")
    turns: tuple[str, ...] = Field(default=(), description="what the user says later")
    right: str = Field(min_length=1, description="an answer that passes")
    wrong: str = Field(min_length=1, description="an answer that fails")


class RuledFile(SuiteModel):
    wishes: dict[str, Wish]
    questions: tuple[Ruled, ...] = Field(min_length=1)


class SuiteEntry(msgspec.Struct, frozen=True):
    """One row of a suite, with an example answer that passes all of its checks and one that does not."""

    row: InstructionRow
    right: str
    wrong: str


def suite_rows(suite: RobustnessSuite) -> list[InstructionRow]:
    """The rows of a suite, in the order of its file; new ones with every call, for stages change them."""
    return [entry.row for entry in suite_entries(suite)]


def suite_entries(suite: RobustnessSuite) -> list[SuiteEntry]:
    """The rows of a suite with their example answers."""
    if suite is RobustnessSuite.FACTS:
        return _facts(_read(suite, FactsFile))
    condition = SYSTEM if suite is RobustnessSuite.CONFLICTS else KEPT
    return _ruled(suite, _read(suite, RuledFile), condition)


SuiteFile = TypeVar("SuiteFile", bound=SuiteModel)


def _read(suite: RobustnessSuite, model: type[SuiteFile]) -> SuiteFile:
    text = files("shared.robustness").joinpath(f"{suite.value}.yaml").read_text(encoding="utf-8")
    return model.model_validate(yaml.safe_load(text))


def _facts(found: FactsFile) -> list[SuiteEntry]:
    return [
        SuiteEntry(
            _row(
                RobustnessSuite.FACTS,
                number,
                fact.question,
                fact.category,
                [
                    Facet(0, system_form=NONE, checks=[_accepted(fact)]),
                    _asked_by(found, fact, 1, RELEVANT, fact.relevant),
                    _asked_by(found, fact, 2, IRRELEVANT, fact.irrelevant),
                ],
            ),
            fact.right,
            fact.wrong,
        )
        for number, fact in enumerate(found.questions)
    ]


def _asked_by(found: FactsFile, fact: Fact, index: int, condition: str, name: str) -> Facet:
    person = found.people[name]
    wishes = [found.wishes[wish].preference_with() for wish in person.wishes]
    return Facet(index, wishes, system=person.system, system_form=condition, checks=[_accepted(fact)])


def _accepted(fact: Fact) -> Check:
    kind = "must_include" if len(fact.accepted) == 1 else "must_include_one"
    return validate_check(kind, {"phrases": list(fact.accepted)})


def _ruled(suite: RobustnessSuite, found: RuledFile, condition: str) -> list[SuiteEntry]:
    entries = []
    for number, ruled in enumerate(found.questions):
        check = validate_check(ruled.rule.kind, ruled.rule.parameters)
        facet = Facet(
            0,
            [found.wishes[ruled.wish].preference_with(check)],
            system=f"{ruled.role} {canonical_sentence(check)}",
            system_form=condition,
            checks=[check],
        )
        row = _row(suite, number, ruled.ask, check.kind, [facet], ruled.turns)
        entries.append(SuiteEntry(row, ruled.right, ruled.wrong))
    return entries


def _row(
    suite: RobustnessSuite,
    number: int,
    instruction: str,
    category: str,
    facets: list[Facet],
    turns: tuple[str, ...] = (),
) -> InstructionRow:
    source = f"robustness-{suite.value}"
    return InstructionRow(
        row_id_of(instruction),
        instruction,
        source,
        source,
        number,
        tags=[f"{SUITE_TAG}{suite.value}"],
        category=category,
        turns=list(turns),
        split="test",
        facets=facets,
    )
