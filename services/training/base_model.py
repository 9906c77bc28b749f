"""The base of a training as a folder on this machine, wherever it comes from, and what it is called in the lineage."""

from collections.abc import Iterator, Sequence
from hashlib import file_digest, sha256
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from services.training.data.examples import POINTER
from services.training.models.hub import fetch_from_hub
from services.training.models.loading import load_base
from services.training.registration.record import RECORD_NAME, read_record
from shared.domain.errors import InputRefused
from shared.domain.models import MODEL_KIND
from shared.domain.training import Method, TrainParameters, Tuning
from shared.model_folder import check_model_folder
from shared.sources.readers import Record, detect_format, read_records
from shared.stages.protocol import InputObject
from shared.stages.training_inputs import BASE_STAGE

TOKENIZER_ROWS = 20_000
"""Rows that the tokenizer of a random base is trained on, at most."""


def place_base(
    parameters: TrainParameters,
    inputs: Sequence[InputObject],
    models_folder: Path | None,
    data_file: Path,
    folder: Path,
) -> Path:
    """The folder of the base, checked: safetensors, config, tokenizer, no code of its own. `folder` is for what has to be
    made. Raises InputRefused for a base that cannot be trained from, with the pointer /base."""
    try:
        found = _place(parameters, inputs, models_folder, data_file, folder)
        check_model_folder(found)
        _check_record(found)
    except InputRefused as error:
        raise InputRefused(str(error), error.pointer or "/base") from error
    return found


def _place(
    parameters: TrainParameters,
    inputs: Sequence[InputObject],
    models_folder: Path | None,
    data_file: Path,
    folder: Path,
) -> Path:
    base = parameters.base
    if base.hub is not None:
        return fetch_from_hub(base.hub, base.hub_revision)
    if base.folder is not None:
        return _folder_of_operator(base.folder, models_folder)
    if base.random is not None:
        return _random(parameters, data_file, folder)
    return _from_objects(inputs)


def _folder_of_operator(name: str, models_folder: Path | None) -> Path:
    if models_folder is None:
        raise InputRefused(
            f"base.folder names {name!r}, but the operator set no folder of models for this worker; set "
            "MULTIFACET_MODELS_FOLDER there, or name a base on the Hub or in the registry"
        )
    found = (models_folder / name).resolve()
    if not found.is_relative_to(models_folder.resolve()):
        raise InputRefused(f"base.folder {name!r} leads out of the operator's folder of models; name a folder in it")
    if not found.is_dir():
        there = sorted(path.name for path in models_folder.iterdir() if path.is_dir()) if models_folder.is_dir() else []
        raise InputRefused(
            f"the operator's folder of models has no folder {name!r}; it has {', '.join(there[:20]) or 'none'}"
        )
    return found


def _random(parameters: TrainParameters, data_file: Path, folder: Path) -> Path:
    """A random base is saved and read again like any other. Its tokenizer is trained on the texts that it will learn."""
    plain = parameters.model_copy(update={"method": Method.SFT, "tuning": Tuning.FULL})
    loaded = load_base(plain, None, islice(_texts(data_file), TOKENIZER_ROWS))
    loaded.model.save_pretrained(str(folder))
    loaded.tokenizer.save_pretrained(str(folder))
    return folder


def _texts(path: Path) -> Iterator[str]:
    """All texts of the rows of a data file, whatever its columns. Raises InputRefused for a file that cannot be read."""
    if path.stat().st_size == 0:
        return
    for record in read_records(path, detect_format(path, "auto", POINTER), POINTER):
        if isinstance(record, Record):
            yield "\n".join(_leaves(record.fields))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)


def _check_record(folder: Path) -> None:
    """What a base tells of its own training goes into the new model's lineage: an unreadable one is refused before any step."""
    if not (folder / RECORD_NAME).is_file():
        return
    try:
        read_record(folder)
    except msgspec.MsgspecError as error:
        raise InputRefused(
            f"{folder / RECORD_NAME}, which says how the base was trained, cannot be read ({error}); take the model as it was "
            "registered, or remove this file if the lineage may begin with this base"
        ) from error


def _from_objects(inputs: Sequence[InputObject]) -> Path:
    """The files of a registered model lie together, as they were downloaded."""
    return next(
        item.path.parent for item in inputs if item.stage == BASE_STAGE and item.name == f"{MODEL_KIND}/config.json"
    )


def digest_of_base(folder: Path) -> str:
    """sha256 over names and contents of the files that decide what the model is: weights, configuration, tokenizer."""
    whole = sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and (path.suffix in {".safetensors", ".json", ".jinja"} or path.name == "tokenizer.model"):
            if path.name == "multifacet.json":  # tells when and by whom, not what
                continue
            with path.open("rb") as file:
                whole.update(f"{path.name} {file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()
