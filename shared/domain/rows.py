"""The record that flows through every row stage: one instruction with its k facets nested.

msgspec structs: typed, validated when read, and about ten times cheaper per row than pydantic models. Parquet columns
are exactly the fields of `InstructionRow` (see `shared.artifacts.tables`). Siblings always travel together, so checks of
order, difference and similarity between the facets of one instruction are local to the row.
"""

from typing import Any

import msgspec

ROW_SCHEMA_VERSION = "instruction-row/4"

HARMFUL_INTENT_TAG = "harmful-intent"
"""Set by curation on an instruction whose evident intent is harm: poles with a `stance` stand on the careful side for it."""


class Check(msgspec.Struct, frozen=True, omit_defaults=True):
    """A machine check: `kind` names a program in `shared.domain.checks`, `parameters` its arguments."""

    kind: str
    parameters: dict[str, str | int | float | list[str]] = {}


class Preference(msgspec.Struct, frozen=True):
    """One entry of a preference set, as assigned to one instruction.

    `preference` is a few keywords, `description` one to three sentences. `pole` is the side of the subdimension that the
    sampler assigned (the taxonomy names both), `intensity` how much this person cares. `seed_name` is the taxonomy seed that it
    grew from; empty for a preference that the teacher coined in a free slot, whose subdimension and pole are those of the
    taxonomy that it was found to belong to (`pole` is empty where it belongs to none).
    """

    dimension: str
    subdimension: str
    preference: str
    description: str
    pole: str
    seed_name: str = ""
    check: Check | None = None
    intensity: str = ""


class Rejection(msgspec.Struct, frozen=True):
    """Why a facet (or a row) ends here. `reason` is a short stable code that is counted, `detail` is for people."""

    stage: str
    reason: str
    detail: str = ""


class Provenance(msgspec.Struct, frozen=True):
    """Who made a value: one per stage and facet."""

    stage: str
    provider: str
    model: str
    prompt_version: str
    seed: int
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    repetition_penalty: float | None = None
    attempts: int = 1
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Contradiction(msgspec.Struct, frozen=True):
    """What an answer states and the neutral answer states otherwise, each in its own words."""

    answer_quote: str
    reference_quote: str


class Answer(msgspec.Struct, frozen=True):
    """One answer of a candidate to a facet. `seed` is the one that was sent, `tokens` its length as the server counted."""

    text: str
    finish_reason: str
    seed: int
    tokens: int
    reward: float | None = None
    """Score of the reward model, where one was asked."""
    best: bool = False
    """The one with the highest reward among those without a fault; without a reward model the only one."""
    fault: str = ""
    """Why the answer does not count (`empty`, or the code of an error); such a one has no reward and is never the best."""
    later: list[str] = []
    """Of a conversation: the answers to the later turns (`InstructionRow.turns`); `text` is that to the first."""
    measures: dict[str, float] = {}
    """What local models say of it: `toxicity` (0 to 1), `perplexity`."""


class Rubric(msgspec.Struct, frozen=True):
    """How an answer is graded on one preference: what is looked at, and what each score from 1 to 5 means, in this order."""

    criterion: str
    levels: list[str]


class Judgment(msgspec.Struct, frozen=True):
    """One verdict on one answer of a facet. Of absolute grading (1 to 5) `facet` and `rubric` say whose rubric it was: another
    person's where `facet` is not the facet's own index. Of a rated conversation (1 to 10) `rubric` is the turn, from 0."""

    answer: int
    """Position of the answer among the facet's."""
    facet: int
    rubric: int
    run: int
    score: float | None
    """None where no verdict could be read: `fault` says why."""
    feedback: str = ""
    fault: str = ""


class Comparison(msgspec.Struct, frozen=True):
    """One verdict on the facet's best answer beside the baseline's, as this candidate sees it."""

    run: int
    order: int
    """0: this candidate's answer was shown first; 1: the baseline's."""
    verdict: str
    """'win' | 'both_good' | 'both_bad' | 'lose' of `person`; 'win' | 'lose' of `alpaca_eval`; 'much_better' | 'better' | 'same' |
    'worse' | 'much_worse' of `arena_hard`; empty where no verdict could be read."""
    feedback: str = ""
    fault: str = ""


class Facet(msgspec.Struct):
    """One preference set of an instruction with all that grows from it. Mutable: each stage fills its own fields.

    The neutral answer of an instruction (`InstructionRow.neutral`) is a facet without preferences and system message.
    """

    index: int
    preferences: list[Preference] = []
    redrawn: int = 0
    """Slots whose seed did not fit the instruction and was replaced."""
    profile: int | None = None
    """Number of the persistent person whose preferences these are; None for a set drawn for this instruction alone."""
    system: str | None = None
    system_form: str | None = None
    system_role: str | None = None
    """The role that the system message gives the assistant, where its form asks for one."""
    response: str | None = None
    finish_reason: str | None = None
    check_results: dict[str, str] = {}
    """Preference subdimension -> 'pass' | 'fail' | 'not_applicable', for preferences that carry a machine check."""
    moot: list[int] = []
    """Positions of preferences that every answer of the instruction follows, the neutral one included: they tell nobody apart."""
    contradictions: list[Contradiction] = []
    """Statements of the response that contradict the neutral answer, as a judge quoted them."""
    scores: dict[str, float] = {}
    """Figures of the facet matrix (`shared.domain.facet_matrix`): `own` (how far the response follows the facet's preferences
    that are not moot, 0 to 1), `specificity` (mean margin over the siblings, -1 to 1), `words` (of the response); of a judged
    response also `quote_unverified` and `contradictions_unverified`, the judge's quotes that did not stand there, `controls`,
    wishes that the response does not follow, and `controls_missed`, those of them that the judge called followed or partly."""
    answers: list[Answer] = []
    """Of an answer stage's candidate: all of them, in the order of their samples. Questions may bring answers along."""
    preferred: int | None = None
    """Of questions that bring answers along: position of the one that people prefer."""
    rubrics: list[Rubric] = []
    """One per preference, in their order; empty where nobody wrote any."""
    checks: list[Check] = []
    """What an answer must satisfy whatever its preferences are: a right answer, a rule of the system message."""
    later_references: list[str] = []
    """Of a conversation: reference answers to the later turns; `response` is that to the first."""
    judgments: list[Judgment] = []
    comparisons: list[Comparison] = []
    rejection: Rejection | None = None
    provenance: list[Provenance] = []

    @property
    def alive(self) -> bool:
        return self.rejection is None


NEUTRAL_INDEX = -1
"""Facet index of the neutral answer, also as the answer of a `Verdict`."""


class Verdict(msgspec.Struct, frozen=True):
    """One entry of the facet matrix: how far the answer of facet `answer` follows one preference of facet `facet`."""

    answer: int
    """Facet index of the answer; NEUTRAL_INDEX for the neutral one."""
    facet: int
    preference: int
    """Position of the preference in that facet's set."""
    verdict: str
    """'followed' | 'partly' | 'violated'."""
    source: str
    """'program' (a machine check) or 'judge'."""
    quote: str = ""
    """Where in the answer a judge saw it."""


class InstructionRow(msgspec.Struct):
    """One instruction. `row_id` is the first 16 hex digits of sha256 of the normalised instruction: stable over jobs."""

    row_id: str
    instruction: str
    main_source: str
    """The data set it was imported from, as the released columns name it."""
    original_source: str
    """The source within that data set (equal to `main_source` where the data set names none)."""
    source_row: int
    """Position in the imported source, from 0."""
    language: str = "en"
    """ISO 639-1 code of the instruction's language."""
    tags: list[str] = []
    category: str = ""
    """Of a benchmark's question: the group that its figures are told by."""
    turns: list[str] = []
    """Of a conversation: what the user says after the answer to the instruction, turn by turn."""
    split: str = "train"
    """'train' or 'test': decided when curation ends, before any preference is drawn."""
    level: str = ""
    """Of a test row: what its preferences show that training has not, see `shared.domain.splits`."""
    draw: int = 0
    """Number of the draw of its preference sets. Training rows count from 0; a test row of level `seen` has the number of a
    training row and so the same preferences."""
    facets: list[Facet] = []
    neutral: Facet | None = None
    """The answer without a system message, where one was asked for."""
    matrix: list[Verdict] = []

    @property
    def alive(self) -> bool:
        """A row counts as out while at least one facet lives (or none was made yet)."""
        return not self.facets or any(facet.alive for facet in self.facets)


class RejectedRow(msgspec.Struct, frozen=True):
    """An input row that curation did not let in; `source` and `source_row` find it again, `text` is what could be read."""

    source: int
    """Position of its source in the job spec, from 0: rows of several sources may name the same `main_source`."""
    main_source: str
    source_row: int
    reason: str
    detail: str
    text: str = ""


def row_to_builtins(row: InstructionRow) -> dict[str, Any]:
    """The row as plain dicts and lists, for JSON and for pages."""
    result: dict[str, Any] = msgspec.to_builtins(row)
    return result
