"""A training's step outside a worker: a store in a folder, a few rows of the released columns, and what the step told."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from services.training.step import run
from shared.artifacts.directory import DirectoryStore
from shared.domain.jobs import JobSpec
from shared.domain.models import MODEL_KIND
from shared.settings import get_settings
from shared.stages.protocol import InputObject, WholeContext, WholeResult
from shared.stages.training_inputs import BASE_STAGE, DATA_STAGE, UPLOAD_STAGE
from tests.support.taxonomies import small_taxonomy

torch.set_num_threads(1)  # models this small gain nothing from a second thread

Row = dict[str, Any]

WORDS = ("short", "kind", "clear", "long", "plain", "warm", "exact", "calm", "dry", "brief")


def texts(number: int, count: int) -> str:
    """`count` words that depend on `number` alone."""
    return " ".join(WORDS[(number * 7 + place * place) % len(WORDS)] for place in range(count))


def export_rows(method: str, count: int, start: int = 0) -> list[Row]:
    """Rows with the columns of the method's export."""
    rows: list[Row] = []
    for number in range(start, start + count):
        system, prompt = f"Be {texts(number, 3)}.", f"What is {texts(number + 1, 2)}?"
        chosen, rejected = f"It is {texts(number + 2, 3 + number % 4)}.", f"No, {texts(number + 5, 2 + number % 3)}!"
        sources = {"main_source": "demo", "original_source": "demo"}
        match method:
            case "sft":
                rows.append({**sources, "system": system, "prompt": prompt, "output": chosen})
            case "rm":
                rows.append({"input": f"{system}\n{prompt}", "chosen": chosen, "rejected": rejected})
            case _:
                pair = {"chosen": chosen, "rejected": rejected}
                rows.append({**sources, "system": system, "prompt": prompt, **pair})
    return rows


def training(name: str, method: str = "sft", **values: Any) -> dict[str, Any]:
    """A training of a few steps in float32, as a job's spec has it."""
    return {
        "preset": "smoke-cpu",
        "name": name,
        "method": method,
        "maximum_steps": 3,
        "warmup_steps": 0,
        "maximum_length": 128,
        "checkpoint_every_steps": None,
        **values,
    }


@dataclass
class Told:
    """What a step said while it ran."""

    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    progress: list[tuple[int, int | None, str]] = field(default_factory=list)
    points: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        return [data["text"] for type_, data in self.events if type_ == "note"]


class Trainings:
    """Runs trainings in this process, each in a folder of its own, over one store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = DirectoryStore(folder / "store")
        self.told = Told()
        self._attempts = 0

    def run(
        self,
        specs: Sequence[Mapping[str, Any]],
        stage: str,
        inputs: Sequence[InputObject],
        *,
        job_id: str = "job_1",
    ) -> tuple[WholeResult, Path]:
        """The result and the output folder of the training `stage`; what it told is in `told`."""
        self._attempts += 1
        output = self.attempt_folder(self._attempts) / "outputs"
        output.mkdir(parents=True)
        self.told = Told()
        spec = JobSpec.model_validate(
            {
                "name": "tests",
                "sources": [{"bundled": "demo"}],
                "teacher": {"provider": "simulator", "model": "simulator-small"},
                "train": list(specs),
            }
        )
        context = WholeContext(
            job_id=job_id,
            stage=stage,
            spec=spec,
            taxonomy=small_taxonomy(),
            inputs=tuple(inputs),
            output_folder=output,
            progress=lambda done, total, note: self.told.progress.append((done, total, note)),
            facts={
                "project_id": "tests",
                "code_version": "0",
                "data_teacher": {
                    "teacher": "simulator/simulator-small",
                    "is_simulator": True,
                    "prompt_versions": {"respond": "1"},
                },
            },
            attempt_id=self._attempts,
            emit=lambda type_, data: self.told.events.append((type_, data)),
            starts_from=self.told.points.append,
        )
        return run(context), output

    def attempt_folder(self, number: int) -> Path:
        return self.folder / f"attempt-{number}"

    def exports(self, method: str, count: int = 12, test: int = 3) -> list[InputObject]:
        """Training and test rows of a job, as the worker hands them over."""
        found = []
        for split, rows in (("train", export_rows(method, count)), ("test", export_rows(method, test, start=500))):
            found.append(self.parquet(f"{split}.parquet", rows))
        return found

    def parquet(self, name: str, rows: Sequence[Row], columns: Sequence[str] = ()) -> InputObject:
        path = self._new_folder() / name
        table = (
            pa.Table.from_pylist(list(rows))
            if rows
            else pa.table({column: pa.array([], pa.string()) for column in columns})
        )
        pq.write_table(table, path)
        return InputObject(DATA_STAGE, name, path, len(rows), {}, id=f"art_{name}", sha256="0" * 64)

    def upload(self, rows: Sequence[Row], name: str = "mine.jsonl") -> InputObject:
        path = self._new_folder() / "file_1"
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        return InputObject(UPLOAD_STAGE, "file_1", path, None, {"name": name}, id="file_1", sha256="1" * 64)

    def base(self, result: WholeResult) -> list[InputObject]:
        """The model that a training made, as the worker hands it to the next one."""
        return [
            InputObject(BASE_STAGE, output.name, output.path, None, {}, id=f"art_{output.name}")
            for output in result.outputs
            if output.kind == MODEL_KIND
        ]

    def keys(self, prefix: str) -> list[str]:
        root = self.folder / "store" / prefix
        return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())

    def _new_folder(self) -> Path:
        folder = self.folder / "inputs" / str(len(list((self.folder / "inputs").glob("*"))))
        folder.mkdir(parents=True)
        return folder


@contextmanager
def running_trainings(folder: Path, **settings: str) -> Iterator[Trainings]:
    """Trainings over a store in `folder`; `settings` are further variables of the environment."""
    (folder / "inputs").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MULTIFACET_ARTIFACT_STORE", "directory")
        patch.setenv("MULTIFACET_ARTIFACT_DIRECTORY", str(folder / "store"))
        for name, value in settings.items():
            patch.setenv(name, value)
        get_settings.cache_clear()
        yield Trainings(folder)
    get_settings.cache_clear()
