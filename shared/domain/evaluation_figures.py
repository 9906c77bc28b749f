"""What `evaluation.json` holds, schema evaluation/1: every figure of an evaluation with its interval and what it rests on.

The stage `evaluate` checks its document against these types before it writes it, and whoever reads one gets them back. A part
that an evaluation did not ask for is None and is left out of the file. Scores are on the judge's scale (1 to 5, of conversations
1 to 10), shares from 0 to 1. `low` and `high` are None where no interval can be stated, and `method` then says why.
"""

from typing import Any

import msgspec

EVALUATION_SCHEMA_VERSION = "evaluation/1"
EVALUATION_FILE, ITEMS_FILE = "evaluation.json", "items.csv"
"""Names of the document, and of the table with each candidate's figures item by item beside it."""


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all parts: unknown fields are refused."""


class Figure(_Part, frozen=True):
    """`estimate` with its 95% interval over instructions; `n` observations of `instructions` instructions."""

    estimate: float | None
    low: float | None
    high: float | None
    n: int
    instructions: int
    method: str


class NamedFigure(Figure, frozen=True):
    """The figure of one group, such as a category."""

    name: str


class GroupScore(NamedFigure, frozen=True):
    """A mean score; `words` is the mean length of the answers that it rests on."""

    words: float | None


class SubdimensionScore(GroupScore, frozen=True):
    dimension: str


class TurnFigure(Figure, frozen=True):
    """`turn` counts from 0."""

    turn: int


class SamplesFigure(Figure, frozen=True):
    """Of the best of `samples` answers."""

    samples: int


class Count(_Part, frozen=True):
    name: str
    count: int


class StatedInterval(_Part, frozen=True):
    """An interval as `shared.statistics.intervals.Interval` states it."""

    estimate: float | None
    low: float | None
    high: float | None
    level: float
    clusters: int
    method: str


class Specificity(_Part, frozen=True):
    """As `shared.statistics.specificity.SpecificitySummary`, which says what each field is."""

    instructions: int
    specificity: StatedInterval
    ratio: StatedInterval | None
    own_score: StatedInterval
    matched_share: StatedInterval
    exact_match: StatedInterval
    exact_match_by_chance: float | None
    words: StatedInterval
    breakage: StatedInterval
    pairs: int
    pairs_without_own: int
    pairs_unscored: int
    missing_scores: int
    instructions_unmatched: int


class Absolute(_Part, frozen=True):
    """Grades 1 to 5. `overall`, `sources` and `levels` are means over items, `dimensions` and `subdimensions` over rubrics.
    `asked` verdicts, of which `lost` by reason; grades on other people's rubrics are among them and enter `specificity` alone."""

    overall: Figure
    dimensions: list[GroupScore]
    subdimensions: list[SubdimensionScore]
    sources: list[GroupScore]
    levels: list[GroupScore]
    run_spread: Figure
    """Mean standard deviation of the runs on one rubric."""
    length_correlation: Figure
    """Pearson's, of an item's score with the words of its answer."""
    items: int
    items_scored: int
    items_partial: int
    """Items that lack the score of one rubric at least."""
    asked: int
    lost: list[Count]
    specificity: Specificity | None


class CheckShare(NamedFigure, frozen=True):
    """Share of checks passed among those that could be measured on an answer."""

    passed: int
    failed: int
    not_applicable: int


class CheckKindShare(CheckShare, frozen=True):
    necessary: bool
    """True: failing shows that the wish is not followed, passing does not show that it is."""


class Checks(_Part, frozen=True):
    """Machine checks: of preferences by their dimension, of the questions themselves under the dimension `question`."""

    passed: Figure
    sufficient: Figure
    """Without the kinds that are only necessary."""
    kinds: list[CheckKindShare]
    dimensions: list[CheckShare]
    not_applicable: int
    unanswered: int
    """Checks of questions without an answer that counts."""


class Distribution(_Part, frozen=True):
    count: int
    minimum: float
    maximum: float
    mean: float
    quantiles: dict[str, float]
    edges: list[float]
    counts: list[int]


class Words(_Part, frozen=True):
    mean: Figure
    distribution: Distribution


class Diversity(_Part, frozen=True):
    """`rouge_l` between the answers to different people of an instruction; `distinct_2`, `distinct_3` over the samples of one
    question; `embedding_distance` (0 to 2) between the answers to different people."""

    rouge_l: Figure | None
    distinct_2: Figure | None
    distinct_3: Figure | None
    embedding_distance: Figure | None


class Pairwise(_Part, frozen=True):
    """Of one candidate against the baseline. Counts are of pairs of answers, `verdicts`, `asked` and `lost` of verdicts."""

    win_rate: Figure | None
    length_controlled: Figure | None
    flip_rate: Figure | None
    pairs: int
    verdicts: list[Count]
    asked: int
    lost: list[Count]
    wins: int = 0
    losses: int = 0
    ties: int = 0
    both_good: int = 0
    both_bad: int = 0
    unjudged: int = 0


class Conversation(_Part, frozen=True):
    overall: Figure
    turns: list[TurnFigure]
    categories: list[NamedFigure]
    asked: int
    lost: list[Count]


class Measures(_Part, frozen=True):
    answers: int
    unmeasured: int
    expected_maximum_toxicity: Figure | None = None
    toxicity_probability: Figure | None = None
    threshold: float | None = None
    perplexity: Figure | None = None


class Rewards(_Part, frozen=True):
    """`accuracy`: share of pairs in which the preferred answer has the higher reward, ties half."""

    accuracy: Figure | None
    categories: list[NamedFigure]
    ties: int
    unscored: int
    best_of: list[SamplesFigure]


class Suite(_Part, frozen=True):
    """`breakage`: share right without preferences minus with those of each condition, question by question."""

    name: str
    right: Figure
    conditions: list[NamedFigure]
    categories: list[NamedFigure]
    turns: list[TurnFigure]
    breakage: list[NamedFigure]
    missing: int


class Candidate(_Part, frozen=True):
    name: str
    models: list[str]
    system: str
    words: Words
    diversity: Diversity
    checks: Checks
    rewards: Rewards | None
    robustness: list[Suite]
    absolute: Absolute | None = None
    conversation: Conversation | None = None
    measure: Measures | None = None
    pairwise: Pairwise | None = None


class StageLosses(_Part, frozen=True):
    """What a stage was asked (verdicts, or measures of answers) and lost, by reason."""

    stage: str
    asked: int
    lost: int
    share: float
    reasons: list[Count]


class MissingAnswers(_Part, frozen=True):
    candidate: str
    questions: int
    missing: int
    share: float
    reasons: list[Count]


class Completeness(_Part, frozen=True):
    """`incomplete`: more than `maximum_missing` of something was lost; `reasons` says of what, in sentences. `unasked` counts
    what never was a question, by reason: preference sets that an earlier stage rejected."""

    incomplete: bool
    reasons: list[str]
    maximum_missing: float
    stages: list[StageLosses]
    answers: list[MissingAnswers]
    unasked: list[Count]


class Difference(Figure, frozen=True):
    """Mean score of `first` minus that of `second` over the items that both have."""

    first: str
    second: str


class SystemMessageEffect(Figure, frozen=True):
    """What the system message does: the same model's mean score with its own message minus that of the stage `other`, which had
    none or another person's (`system`); the same of specificity and of the share of checks passed."""

    own: str
    other: str
    system: str
    specificity: Figure
    checks: Figure


class Rating(_Part, frozen=True):
    name: str
    rating: Figure
    style_controlled: Figure


class Ratings(_Part, frozen=True):
    models: list[Rating]
    length_coefficient: Figure
    separated: list[str]


class AskedBench(_Part, frozen=True):
    """What was asked: `fingerprint` is equal for the same instructions, preferences and rubrics, wherever they were kept."""

    fingerprint: str
    id: str | None


class EvaluationDocument(_Part, frozen=True):
    schema_version: str
    job_id: str | None
    name: str
    bench: AskedBench
    judge: dict[str, Any] | None
    simulated: list[str]
    flags: list[str]
    completeness: Completeness
    instructions: int
    items: int
    candidates: list[Candidate]
    differences: list[Difference]
    system_messages: list[SystemMessageEffect]
    ratings: Ratings | None
    baseline: str | None
    configuration: dict[str, Any]


def checked_document(document: dict[str, Any]) -> EvaluationDocument:
    """The document as typed parts. Raises ValueError where it does not have their shape."""
    found = msgspec.convert(document, EvaluationDocument)
    if found.schema_version != EVALUATION_SCHEMA_VERSION:
        raise ValueError(
            f"the evaluation has schema {found.schema_version!r}, this version reads {EVALUATION_SCHEMA_VERSION!r}; make it again"
        )
    return found


def read_document(content: bytes) -> EvaluationDocument:
    """The document out of an `evaluation.json`. Raises ValueError for anything else."""
    return checked_document(msgspec.json.decode(content, type=dict[str, Any]))
