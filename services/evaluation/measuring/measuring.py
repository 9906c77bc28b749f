"""The row stage `measure`: toxicity, fluency and embedding distance of every answer without a fault.

Models and connections live as long as the worker's loop: they are started at the first row that needs them.
"""

import asyncio
from weakref import WeakKeyDictionary

import msgspec

from services.evaluation.measuring.child import LocalModels
from services.evaluation.measuring.perspective import Perspective
from shared.domain.evaluations import MeasureParameters
from shared.domain.judged_answers import best_answer
from shared.domain.rows import InstructionRow
from shared.settings import get_settings
from shared.stages.facets import concurrently
from shared.stages.protocol import RowContext

TOXICITY, PERPLEXITY, EMBEDDING_DISTANCE = "toxicity", "perplexity", "embedding_distance"


class _Scorers(msgspec.Struct):
    local: dict[str, LocalModels] = {}
    perspective: Perspective | None = None


_BY_LOOP: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Scorers]" = WeakKeyDictionary()


async def measure(row: InstructionRow, context: RowContext) -> InstructionRow:
    """Fill `measures` of every answer without a fault, and `scores["embedding_distance"]` of every facet with an answer, as
    far as the job asks for them. What cannot be measured is left out, and counted by the evaluation. Nothing is rejected.

    Raises InputRefused for a model or key that cannot be used, StepFailed and StepDeferred as the scorers do.
    """
    parameters = measure_of(context)
    scorers = _BY_LOOP.setdefault(asyncio.get_running_loop(), _Scorers())
    places = [
        (facet, position) for facet in row.facets for position, answer in enumerate(facet.answers) if not answer.fault
    ]
    texts = [facet.answers[position].text for facet, position in places]
    best = [(facet, answer.text) for facet in row.facets if (answer := best_answer(facet)) is not None]
    measures: list[dict[str, float]] = [{} for _ in texts]
    if texts and _needs_child(parameters):
        key = parameters.model_dump_json()
        local = scorers.local.setdefault(key, LocalModels(parameters))
        found = await local.ask(row.instruction, texts, [text for _, text in best])
        for name in (TOXICITY, PERPLEXITY):
            for one, value in zip(measures, found.get(name, ()), strict=False):
                if value is not None:
                    one[name] = value
        for (facet, _), distance in zip(best, found.get("distances", ()), strict=False):
            facet.scores[EMBEDDING_DISTANCE] = distance
    if texts and parameters.toxicity is not None and parameters.toxicity.perspective:
        if scorers.perspective is None:
            scorers.perspective = Perspective(get_settings())
        for one, toxicity in zip(
            measures, await concurrently([scorers.perspective.toxicity(text) for text in texts]), strict=True
        ):
            if toxicity is not None:
                one[TOXICITY] = toxicity
    for (facet, position), found_measures in zip(places, measures, strict=True):
        facet.answers[position] = msgspec.structs.replace(facet.answers[position], measures=found_measures)
    return row


def measure_of(context: RowContext) -> MeasureParameters:
    """What the job measures. Raises LookupError where it measures nothing."""
    evaluate = context.spec.evaluate
    if evaluate is None or evaluate.measure is None:
        raise LookupError(f"the job {context.spec.name!r} measures nothing")
    return evaluate.measure


async def close_scorers() -> None:
    """End what this loop's rows started."""
    scorers = _BY_LOOP.pop(asyncio.get_running_loop(), None)
    if scorers is None:
        return
    for local in scorers.local.values():
        await local.close()
    if scorers.perspective is not None:
        await scorers.perspective.close()


def _needs_child(parameters: MeasureParameters) -> bool:
    classifier = parameters.toxicity is not None and parameters.toxicity.classifier is not None
    return classifier or parameters.fluency is not None or parameters.embedding is not None
