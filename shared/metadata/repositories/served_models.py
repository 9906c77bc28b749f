"""What the server of a registered model needs: the model's files, or those of its adapters and where their base is."""

from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from shared.domain.deployments import ServerOptions
from shared.domain.errors import InputRefused
from shared.domain.models import ADAPTER_KIND, MODEL_KIND
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.models import ModelRepository
from shared.metadata.tables import Artifact, RegisteredModel

POINTER = "/target/registry"


class StoredFiles(msgspec.Struct, frozen=True):
    """Files of a registered model in the artifact store: those of kind `model`, or `adapter`."""

    model_id: str
    kind: str
    files: tuple[Artifact, ...]


class OperatorFolder(msgspec.Struct, frozen=True):
    """A folder below the models folder of the machine that serves."""

    name: str


class HubModel(msgspec.Struct, frozen=True):
    """A model on the Hub."""

    repository: str
    revision: str | None


BaseSource = StoredFiles | OperatorFolder | HubModel


class ServedModel(msgspec.Struct, frozen=True):
    """A registered model as a server is given it; `adapters` is None for a whole model."""

    model: RegisteredModel
    base: BaseSource
    adapters: StoredFiles | None


async def served_model(session: AsyncSession, project_id: str, model_id: str) -> ServedModel:
    """Find what the server of a model needs. Raises InputRefused at /target/registry for an unknown model, one whose files are
    gone, and adapters whose base is not found or has weights that nobody kept."""
    model = await ModelRepository(session).get(project_id, model_id)
    if model is None:
        raise InputRefused(
            f"there is no registered model {model_id!r} in this project; GET /v1/registry/models lists them", POINTER
        )
    if not model.adapter_only:
        return ServedModel(model, await _files(session, model, MODEL_KIND), None)
    return ServedModel(model, await _base(session, model), await _files(session, model, ADAPTER_KIND))


def refuse_options(model: RegisteredModel, options: ServerOptions) -> None:
    """Raise InputRefused where this kind of server cannot serve the model."""
    if model.method == "rm" and options.server == "tgi":
        raise InputRefused(
            f"the model {model.id} is a reward model, and TGI gives no scores; set server to cpu", "/options/server"
        )


async def _files(session: AsyncSession, model: RegisteredModel, kind: str) -> StoredFiles:
    made = await ArtifactRepository(session).of_stages(model.job_id, [model.stage])
    files = tuple(item for item in made if item.kind == kind)
    if not files:
        raise InputRefused(
            f"no file of kind {kind} is on record for model {model.id}, so there is nothing to serve; name another model",
            POINTER,
        )
    return StoredFiles(model.id, kind, files)


async def _base(session: AsyncSession, model: RegisteredModel) -> BaseSource:
    base: dict[str, Any] = model.base
    source, name = base.get("source"), str(base.get("name"))
    match source:
        case "folder":
            return OperatorFolder(name)
        case "hub":
            return HubModel(name, base.get("revision"))
        case "registry":
            found = await ModelRepository(session).get(model.project_id, name)
        case "stage":
            query = select(RegisteredModel).where(
                col(RegisteredModel.job_id) == model.job_id, col(RegisteredModel.stage) == name
            )
            found = (await session.execute(query)).scalar_one_or_none()
        case "random":
            raise InputRefused(
                f"the model {model.id} is adapters on a base of random weights ({name}), which nobody kept; train it again with "
                "lora.merge true",
                POINTER,
            )
        case _:
            raise InputRefused(
                f"the model {model.id} is adapters, and its record does not say where their base is; train it again with "
                "lora.merge true",
                POINTER,
            )
    if found is None or found.adapter_only:
        seen = "is adapters itself" if found is not None else "is not registered"
        raise InputRefused(
            f"the model {model.id} is adapters on the {source} base {name!r}, which {seen}; train it again with lora.merge true",
            POINTER,
        )
    return await _files(session, found, MODEL_KIND)
