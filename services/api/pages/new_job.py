"""The form of a new job. Its trainings are written as YAML, from a preset that a person edits."""

from typing import Annotated, Any

import yaml
from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from services.api.pages.rendering import Viewer, render
from services.api.problems import Problem
from services.api.state import State
from shared.domain.training_presets import training_preset, training_preset_names, training_preset_text
from shared.domain.trainings import MAXIMUM_TRAININGS
from shared.llm.providers import ANY_MODEL
from shared.sources.mapping import ready_mappings

router = APIRouter()

_LONGEST_TEXT = 20_000

TrainingText = Annotated[str, Field(max_length=_LONGEST_TEXT)]


class TrainingTexts(BaseModel):
    """Trainings as a person wrote them."""

    model_config = ConfigDict(extra="forbid")

    texts: list[TrainingText] = Field(max_length=MAXIMUM_TRAININGS)


@router.get("/jobs/new")
async def new_job_page(request: Request, caller: Viewer, state: State) -> Response:
    models = [
        {"provider": name, "model": model, "simulator": provider.simulator}
        for name, provider in state.providers.providers.items()
        for model in provider.models
        if model != ANY_MODEL
    ]
    return render(
        request,
        "new_job.html",
        models=models,
        mappings=sorted(ready_mappings()),
        presets=[_preset(name) for name in training_preset_names()],
        most_trainings=MAXIMUM_TRAININGS,
        may_write=caller.may("write"),
    )


@router.post("/jobs/new/trainings")
async def read_trainings(texts: TrainingTexts, _: Viewer) -> dict[str, list[dict[str, Any]]]:
    """The trainings as a job spec takes them. Whether they can work is asked when the job is estimated or submitted.

    Raises a 422 problem that points at the text which is no YAML mapping.
    """
    return {"train": [_training(text, f"/train/{number}") for number, text in enumerate(texts.texts)]}


def _preset(name: str) -> dict[str, Any]:
    values = training_preset(name)
    return {
        "name": name,
        "text": training_preset_text(name),
        "method": values["method"],
        "names_base": "base" in values,
    }


def _training(text: str, pointer: str) -> dict[str, Any]:
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise _refused(
                "the text refers to another part of itself (*name), which a spec cannot hold; write it out", pointer
            )
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise _refused(f"this is no YAML: {_first_line(error)}", pointer) from error
    if not isinstance(values, dict):
        raise _refused("a training is a mapping of options, such as `method: sft`", pointer)
    return {str(name): value for name, value in values.items()}


def _refused(detail: str, pointer: str) -> Problem:
    return Problem(422, "input_refused", detail, errors=[{"pointer": pointer, "detail": detail}])


def _first_line(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} in line {error.problem_mark.line + 1}"
    return str(error).split("\n", maxsplit=1)[0]
