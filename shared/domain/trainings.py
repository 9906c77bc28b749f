"""The trainings of one job together: their names, and which may start from which."""

from collections.abc import Sequence

from shared.domain.evaluations import BENCH, EVALUATE, EVALUATION_PREFIXES, RUBRIC
from shared.domain.plan import COLLECTION_PLAN, SELECT
from shared.domain.training import Method, TrainParameters, Tuning

MAXIMUM_TRAININGS = 8
"""Trainings of one job."""

RESERVED_NAMES = frozenset({stage.name for stage in COLLECTION_PLAN} | {SELECT, RUBRIC, BENCH, EVALUATE, "job"})
"""Names that a job's other stages have, and the one under which its own files are listed."""


def makes_adapters_alone(training: TrainParameters) -> bool:
    """Whether what the training registers is adapters without their base."""
    return training.tuning is not Tuning.FULL and not training.lora.merge


def refuse_trainings(trainings: Sequence[TrainParameters]) -> None:
    """Raise ValueError for trainings of one job that cannot follow each other, and say what to set instead."""
    names = [training.name for training in trainings]
    for number, training in enumerate(trainings):
        if training.name in RESERVED_NAMES:
            raise ValueError(
                f"train[{number}] is called {training.name!r}, which is the name of a stage of the collection; set another "
                "name, such as sft"
            )
        if training.name.startswith(("deploy-", *EVALUATION_PREFIXES)):
            raise ValueError(
                f"train[{number}] is called {training.name!r}; names that begin so are kept for other stages; set another name"
            )
        if training.name in names[:number]:
            raise ValueError(f"two trainings are called {training.name!r}; give each a name of its own")
        if training.base.stage is not None:
            _refuse_base(number, training, trainings)


def _refuse_base(number: int, training: TrainParameters, trainings: Sequence[TrainParameters]) -> None:
    named = training.base.stage
    place = f"train[{number}].base.stage is {named!r}"
    base = next((earlier for earlier in trainings[:number] if earlier.name == named), None)
    if base is None:
        earlier = ", ".join(one.name for one in trainings[:number]) or "none"
        raise ValueError(f"{place}, which is no earlier training of this job; earlier ones: {earlier}")
    if base.dry_run:
        raise ValueError(f"{place}, a dry run, which makes no model; let it train, or name another base")
    if makes_adapters_alone(base):
        raise ValueError(
            f"{place}, which keeps its adapters apart from their base (lora.merge is false); set its lora.merge to true, or "
            "name another base"
        )
    if refusal := refuse_reward_model(base.method, training.method):
        raise ValueError(f"{place}: {refusal}")


def refuse_reward_model(made_by: Method, method: Method) -> str | None:
    """Why a model that `made_by` made cannot be the base of a training of `method`; None where it can."""
    if made_by is Method.REWARD and method is not Method.REWARD:
        return f"a reward model gives scores and no text, so {method.value} cannot start from it; name a language model"
    return None
