"""Completes a trained model's folder with record and card, pushes it where that was asked for, and says what to register."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from services.training.data.prepared import PreparedData
from services.training.models.loading import load_tokenizer
from services.training.registration.card import CARD_NAME, render_card
from services.training.registration.hub import Push, push_model
from services.training.registration.record import (
    RECORD_NAME,
    BaseRecord,
    DataArtifact,
    DataRecord,
    FigureRecord,
    ModelRecord,
    library_versions,
    read_record,
    write_record,
)
from services.training.request import TrainingOutcome, TrainingRequest
from shared.domain.models import ModelRegistration
from shared.domain.training import BaseModelChoice, TrainParameters
from shared.stages.protocol import WholeContext
from shared.stages.training_inputs import BASE_STAGE


def register(
    context: WholeContext,
    parameters: TrainParameters,
    request: TrainingRequest,
    outcome: TrainingOutcome,
    data: PreparedData,
) -> tuple[ModelRegistration, Push | None]:
    """Write `multifacet.json` and `README.md` beside the weights, and push the folder. The registration of the model, and
    what became of the push."""
    record = _record(context, parameters, request, outcome, data)
    folder = outcome.saved.folder
    write_record(folder, record)
    (folder / CARD_NAME).write_text(render_card(record, load_tokenizer(folder)), encoding="utf-8")
    pushed = None
    if parameters.push_to_hub is not None:
        pushed = push_model(folder, parameters.push_to_hub, message=f"{record.method} of job {record.job_id}")
    registration = ModelRegistration(
        name=f"{context.spec.name}/{parameters.name}",
        method=record.method,
        tuning=record.tuning,
        base=msgspec.to_builtins(record.base),
        parameter_count=record.parameter_count,
        dtype=record.dtype,
        metrics={
            "final": outcome.final,
            "evaluation": outcome.evaluation,
            "steps": outcome.steps,
            "tokens": outcome.tokens,
        },
        lineage={
            "data": msgspec.to_builtins(record.data),
            "chain": list(record.chain),
            "random_weights": record.random_weights,
            "libraries": record.libraries,
            "merge": msgspec.to_builtins(record.merge),
            "pushed": None if pushed is None else pushed.address,
        },
        adapter_only=record.adapter_only,
    )
    return registration, pushed


def _record(
    context: WholeContext,
    parameters: TrainParameters,
    request: TrainingRequest,
    outcome: TrainingOutcome,
    data: PreparedData,
) -> ModelRecord:
    earlier = _earlier(request.base_folder)
    saved = outcome.saved
    chain = () if earlier is None else (*earlier.chain, f"{earlier.method} of {earlier.name}")
    return ModelRecord(
        name=f"{context.spec.name}/{parameters.name}",
        method=parameters.method.value,
        tuning=parameters.tuning.value,
        architecture=saved.architecture,
        parameter_count=saved.parameter_count,
        dtype=saved.dtype,
        base=_base(parameters.base, request.base_digest),
        random_weights=parameters.base.random is not None or (earlier is not None and earlier.random_weights),
        chain=chain,
        job_id=context.job_id,
        stage=context.stage,
        parameters=request.parameters,
        data=_data(context, parameters, data),
        figures=FigureRecord(
            steps=outcome.steps,
            epochs=outcome.epochs,
            tokens=outcome.tokens,
            seconds=outcome.seconds,
            final_loss=outcome.final.get("loss"),
            evaluation=outcome.evaluation,
        ),
        merge=saved.merge,
        adapter_only=saved.model is None,
        code_version=str(context.facts["code_version"]),
        libraries=library_versions(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _earlier(folder: Path) -> ModelRecord | None:
    """The record of a base that was trained here before."""
    return read_record(folder) if (folder / RECORD_NAME).is_file() else None


def _base(base: BaseModelChoice, digest: str) -> BaseRecord:
    places = {name: getattr(base, name) for name in ("stage", "registry", "folder", "hub", "random")}
    source, name = next((source, name) for source, name in places.items() if name is not None)
    return BaseRecord(source=source, name=name, revision=base.hub_revision, sha256=digest)


def _data(context: WholeContext, parameters: TrainParameters, data: PreparedData) -> DataRecord:
    """Whose texts were trained on: of an uploaded file nobody knows."""
    facts: dict[str, Any] = dict(context.facts["data_teacher"] or {})
    choice = parameters.data
    own = [source.hub for source in context.spec.sources if source.hub is not None] if choice.is_own else []
    return DataRecord(
        job_id=context.job_id if choice.is_own else choice.job,
        file_id=choice.file,
        artifacts=tuple(
            DataArtifact(item.id, item.name, item.sha256, item.rows)
            for item in context.inputs
            if item.stage != BASE_STAGE
        ),
        train_rows=data.counts.train.kept,
        test_rows=0 if data.counts.test is None else data.counts.test.kept,
        teacher=facts.get("teacher"),
        simulator=bool(facts.get("is_simulator")),
        prompt_versions=facts.get("prompt_versions", {}),
        hub_data_sets=tuple(own),
    )
