"""The row stage `compare`: a candidate's answer beside the baseline's, always in both orders, by one of three protocols."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from services.evaluation.judging.asking import FeedbackFirst, Judged, Question, ask, for_each, turns_of_a_row
from services.evaluation.judging.verdicts import Verdict, choice_in, tagged_choice
from shared.domain.evaluations import PairwiseParameters
from shared.domain.identifiers import seed_of
from shared.domain.judged_answers import best_answer, conversation
from shared.domain.rows import Answer, Comparison, Facet, InstructionRow
from shared.prompts import load_prompt
from shared.prompts.loading import Prompt
from shared.stages.facets import Usage, concurrently, provenance_of
from shared.stages.protocol import RowContext

ORDERS = (0, 1)
NO_ANSWER, NO_BASELINE_ANSWER = "no_answer", "no_baseline_answer"


class PersonVerdict(FeedbackFirst):
    verdict: Literal["a", "b", "both_good", "both_bad"]


class AlpacaEvalVerdict(FeedbackFirst):
    verdict: Literal["a", "b"]


class ArenaHardVerdict(Judged):
    """The judge's own answer comes before it looks at the two."""

    own_answer: str
    feedback: str
    verdict: Literal["a>>b", "a>b", "a=b", "b>a", "b>>a"]


class Protocol(msgspec.Struct, frozen=True):
    """How one protocol asks, and what its verdicts mean for the answer that was shown first, and second."""

    prompt: Prompt
    schema_name: str
    output: type[Judged]
    shown_first: Mapping[str, str]
    shown_second: Mapping[str, str]
    names_wants: bool


PROTOCOLS: dict[str, Protocol] = {
    "person": Protocol(
        load_prompt("services.evaluation", "compare_person"),
        "comparison_person",
        PersonVerdict,
        {"a": "win", "b": "lose", "both_good": "both_good", "both_bad": "both_bad"},
        {"a": "lose", "b": "win", "both_good": "both_good", "both_bad": "both_bad"},
        names_wants=True,
    ),
    "alpaca_eval": Protocol(
        load_prompt("services.evaluation", "compare_alpaca_eval"),
        "comparison_alpaca_eval",
        AlpacaEvalVerdict,
        {"a": "win", "b": "lose"},
        {"a": "lose", "b": "win"},
        names_wants=False,
    ),
    "arena_hard": Protocol(
        load_prompt("services.evaluation", "compare_arena_hard"),
        "comparison_arena_hard",
        ArenaHardVerdict,
        {"a>>b": "much_better", "a>b": "better", "a=b": "same", "b>a": "worse", "b>>a": "much_worse"},
        {"a>>b": "much_worse", "a>b": "worse", "a=b": "same", "b>a": "better", "b>>a": "much_better"},
        names_wants=False,
    ),
}


class _Task(msgspec.Struct, frozen=True):
    own: Answer
    baseline: Answer
    order: int
    run: int


async def compare(row: InstructionRow, context: RowContext) -> InstructionRow:
    """Fill `comparisons` of every facet: one per order and run, as the candidate sees it. Nothing is rejected.

    Where the candidate or the baseline has no answer that counts the verdicts are lost (`no_answer`, `no_baseline_answer`); other
    faults as of `ask`.
    """
    parameters = pairwise_of(context)
    baseline = context.beside[parameters.baseline].get(row.row_id)
    others = {} if baseline is None else {facet.index: facet for facet in baseline.facets}
    turns = turns_of_a_row()
    await concurrently(
        [_compare_facet(row, facet, others.get(facet.index), parameters, context, turns) for facet in row.facets]
    )
    return row


def pairwise_of(context: RowContext) -> PairwiseParameters:
    """How the job compares. Raises LookupError where it does not."""
    evaluate = context.spec.evaluate
    if evaluate is None or evaluate.pairwise is None:
        raise LookupError(f"the job {context.spec.name!r} compares nothing")
    return evaluate.pairwise


async def _compare_facet(
    row: InstructionRow,
    facet: Facet,
    other: Facet | None,
    parameters: PairwiseParameters,
    context: RowContext,
    turns: asyncio.Semaphore,
) -> None:
    own = best_answer(facet)
    baseline = None if other is None else best_answer(other)
    runs = range(parameters.runs)
    if own is None or baseline is None:
        fault = NO_ANSWER if own is None else NO_BASELINE_ANSWER
        facet.comparisons = [Comparison(run, order, "", fault=fault) for order in ORDERS for run in runs]
        return
    usage = Usage()
    tasks = [_Task(own, baseline, order, run) for order in ORDERS for run in runs]
    facet.comparisons = await for_each(tasks, lambda task: _ask(row, facet, task, parameters, context, usage), turns)
    version = PROTOCOLS[parameters.protocol].prompt.version
    facet.provenance.append(
        provenance_of(context.stage, context.teacher, version, context.spec.seed, parameters.decoding, usage)
    )


async def _ask(
    row: InstructionRow, facet: Facet, task: _Task, parameters: PairwiseParameters, context: RowContext, usage: Usage
) -> Comparison:
    protocol = PROTOCOLS[parameters.protocol]
    first, second = (task.own, task.baseline) if task.order == 0 else (task.baseline, task.own)
    meaning = protocol.shown_first if task.order == 0 else protocol.shown_second
    request: dict[str, Any] = {"instruction": row.instruction}
    if protocol.names_wants:
        request["wants"] = [preference.description for preference in facet.preferences]
    request |= {"answer_a": _shown(row, first), "answer_b": _shown(row, second)}
    question = Question(
        messages=protocol.prompt.messages(request=request, tagged=parameters.form == "tagged"),
        sample_index=f"compare:{task.run}",
        seed=seed_of(context.spec.seed, "compare", row.row_id, facet.index, task.order, task.run),
        schema_name=protocol.schema_name,
        output=protocol.output,
        read_structured=lambda said: choice_in(said.verdict, meaning),
        read_text=_reader(meaning),
    )
    ruling = await ask(context.teacher, question, parameters.form, parameters.decoding, usage)
    verdict = ruling.verdict.value
    return Comparison(
        run=task.run,
        order=task.order,
        verdict=meaning[verdict] if isinstance(verdict, str) else "",
        feedback=ruling.feedback,
        fault=ruling.verdict.fault,
    )


def _shown(row: InstructionRow, answer: Answer) -> Any:
    return conversation(row, answer) if row.turns else answer.text


def _reader(choices: Mapping[str, str]) -> Callable[[str], Verdict]:
    return lambda text: tagged_choice(text, choices)
