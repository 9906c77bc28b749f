"""Each gate against slips whose truth is known: how many it finds, and how many sound facets it turns away."""

from collections.abc import Callable, Mapping

import msgspec

from gates.pipeline import Outcome, run_rows, spec_of, training_rows
from services.simulator.faults import FaultPlan
from services.simulator.judge_profile import preset_names
from shared.domain.jobs import JobSpec
from shared.domain.plan import StageKind
from shared.domain.splits import hold_out
from shared.domain.taxonomy import default_taxonomy
from shared.statistics.intervals import Interval, proportion_interval

SLIP_SHARE = 0.25
"""Share of the calls of the stage that meet the slip."""


ROWS_OF_AUGMENT = 3
"""So many times more rows for a gate of `augment`: its one call about all sets of a row holds one slip, where the three calls of
another stage hold up to three. So all gates are measured on about as many slips."""


NO_JUDGE: tuple[str, ...] = ()
REVIEWERS = ("faithful", "noisy", "lenient")
"""Judges who differ in reviews: the length of an answer tempts nobody there."""
COMMANDED = (*REVIEWERS, "injectable")
"""And who differ where a text commands them."""
ALL = preset_names()


class Gate(msgspec.Struct, frozen=True):
    """What finds a slip: the stage, the reasons that it gives, and the judges that it is measured with (none where it needs
    none)."""

    slip: str
    stage: StageKind
    reasons: tuple[str, ...]
    judges: tuple[str, ...]
    by: str

    @property
    def judged(self) -> bool:
        return bool(self.judges)

    def rows(self, wanted: int) -> int:
        """How many rows it is measured on."""
        return wanted * ROWS_OF_AUGMENT if self.stage is StageKind.AUGMENT else wanted


GATES = (
    Gate(
        "contradictory_set",
        StageKind.AUGMENT,
        ("set_contradiction",),
        REVIEWERS,
        "checks that cannot hold together; judge",
    ),
    Gate("moot_preference", StageKind.AUGMENT, ("moot_preference",), REVIEWERS, "judge"),
    Gate("wrong_pole", StageKind.AUGMENT, ("wrong_pole",), REVIEWERS, "names of the opposite; judge"),
    Gate("wrong_level", StageKind.AUGMENT, ("wrong_level",), REVIEWERS, "judge"),
    Gate(
        "duplicate_set",
        StageKind.AUGMENT,
        ("duplicate_set", "similar_set", "repeated_preference"),
        NO_JUDGE,
        "keywords; ROUGE-L",
    ),
    Gate("comma_split_keywords", StageKind.AUGMENT, ("malformed_preference",), NO_JUDGE, "list marks"),
    Gate("held_out_paraphrase", StageKind.AUGMENT, ("held_out_preference",), NO_JUDGE, "character 5-grams"),
    Gate("held_out_reworded", StageKind.AUGMENT, ("held_out_preference",), REVIEWERS, "judge"),
    Gate("injected_description", StageKind.AUGMENT, ("injected_description",), COMMANDED, "patterns; judge"),
    Gate("leaked_answer", StageKind.COMPOSE, ("answer_leaked",), REVIEWERS, "patterns; judge"),
    Gate("restated_task", StageKind.COMPOSE, ("restates_task",), REVIEWERS, "patterns; five-word runs; judge"),
    Gate("injected_message", StageKind.COMPOSE, ("injected_message",), COMMANDED, "patterns; judge"),
    Gate(
        "ignored_facet",
        StageKind.RESPOND,
        # Not `moot_facet`: that every answer follows all of a facet's wishes is no slip of its own answer.
        ("ignored_preference", "check_failed"),
        ALL,
        "machine checks; facet matrix",
    ),
    Gate("broken_fact", StageKind.RESPOND, ("broken_fact",), ALL, "judge against the neutral answer"),
    Gate("injected_answer", StageKind.RESPOND, ("injected_answer", "judge_misled"), ALL, "patterns; controls"),
)


class Result(msgspec.Struct, frozen=True):
    """Shares with 95% Wilson intervals."""

    gate: Gate
    judge: str
    recall: Interval
    false_rejects: Interval


def plan_with(slip: str, stage: StageKind, seed: int) -> FaultPlan:
    """A teacher who makes one slip in a quarter of the stage's calls."""
    taxonomy = default_taxonomy()
    spec = spec_of(seed, judged=True)
    held_out = hold_out(taxonomy, spec.splits, spec.seed).seeds
    texts = [placed.seed.description for placed in taxonomy.seeds() if placed.seed.name in held_out]
    return FaultPlan.model_validate(
        {
            "seed": seed,
            "classes": {stage.value: {"shares": {slip: SLIP_SHARE}}},
            "held_out_texts": texts if slip.startswith("held_out") else [],
        }
    )


def measure(gate: Gate, judge: str, rows: int, seed: int = 0) -> Result:
    """One gate with one judge (the name of a preset) over so many rows, see `Gate.rows`."""
    spec: JobSpec = spec_of(seed, judged=gate.judged)
    outcomes = run_rows(
        training_rows(rows),
        spec,
        plan_with(gate.slip, gate.stage, seed),
        FaultPlan.model_validate({"seed": seed + 1, "judge": judge}),
        gate.stage,
    )
    counts = [_COUNTED.get(gate.slip, _by_facet)(outcome, gate) for outcome in outcomes]
    found, planted, wrong, sound = (sum(part) for part in zip(*counts, strict=True))
    return Result(gate, judge, proportion_interval(found, planted), proportion_interval(wrong, sound))


def _slipped(outcome: Outcome, stage: StageKind) -> set[int]:
    """Indices of the row's facets whose value holds a slip."""
    slipped = set()
    for one in outcome.labels.get(stage, ()):
        name = one.sample_index.split(":")[1]
        if one.label.set is not None:
            slipped.add(one.label.set)
        elif name.isdigit():
            slipped.add(int(name))
    return slipped


def _by_facet(outcome: Outcome, gate: Gate) -> tuple[int, int, int, int]:
    """(slips found, slips, sound facets turned away, sound facets) of one row. A facet that fell before, or for a reason of
    another gate, says nothing about this one; of a row whose neutral answer has the slip, nothing is counted."""
    if any(one.sample_index.startswith("respond:neutral") for one in outcome.labels.get(gate.stage, ())):
        return 0, 0, 0, 0
    slipped = _slipped(outcome, gate.stage)
    found = planted = wrong = sound = 0
    for facet in outcome.row.facets:
        rejection = facet.rejection
        caught = rejection is not None and rejection.stage == gate.stage and rejection.reason in gate.reasons
        if rejection is not None and not caught and not (facet.index in slipped and rejection.stage == gate.stage):
            continue
        if facet.index in slipped:
            planted += 1
            # What another gate turned away did not get through either.
            found += rejection is not None
        else:
            sound += 1
            wrong += caught
    return found, planted, wrong, sound


def _by_row(outcome: Outcome, gate: Gate) -> tuple[int, int, int, int]:
    """Of two sets that are the same either may go: counted is whether one did."""
    reasons = [facet.rejection.reason if facet.rejection is not None else None for facet in outcome.row.facets]
    caught = any(reason in gate.reasons for reason in reasons)
    if _slipped(outcome, gate.stage):
        # Where the original or the copy fell for another reason, no two are the same any more.
        return (int(caught), 1, 0, 0) if caught or not any(reasons) else (0, 0, 0, 0)
    return 0, 0, int(caught), 1


_COUNTED: Mapping[str, Callable[[Outcome, Gate], tuple[int, int, int, int]]] = {"duplicate_set": _by_row}
