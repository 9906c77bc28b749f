"""Uploaded files."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import UploadFile

from services.api.authentication import Reader, Writer
from services.api.problems import Problem, not_found
from services.api.routes.common import listing, problems
from services.api.schemas import Before, FileView, Limit, Listing
from services.api.state import State
from services.api.submission import inspect_upload
from shared.artifacts.layout import upload_key
from shared.domain.errors import InputRefused
from shared.domain.identifiers import new_id
from shared.domain.jobs import Source
from shared.metadata.repositories.files import FileRepository
from shared.metadata.tables import UploadedFile
from shared.sources.inspection import SourceInspection

router = APIRouter(prefix="/v1/files", tags=["files"])

NAME_CHARACTERS = 200
_CHUNK_BYTES = 1 << 20
_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {
                    "file": {"type": "string", "format": "binary", "description": "JSONL, JSON, CSV or Parquet"}
                },
                "required": ["file"],
                "additionalProperties": False,
            }
        }
    },
}


@router.post(
    "",
    status_code=201,
    operation_id="upload_file",
    responses=problems(413, 415),
    openapi_extra={"requestBody": _FORM},
)
async def upload(request: Request, response: Response, caller: Writer, state: State) -> FileView:
    """Upload one file as `multipart/form-data`, in the field `file`. It is streamed to disk and never held in memory."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Problem(
            415,
            "unsupported_media_type",
            f"the body is {request.headers.get('content-type', 'of no declared type')!r}; send multipart/form-data with a "
            "field `file`",
        )
    async with request.form(max_files=1, max_fields=0) as form:
        given = form.getlist("file")
        if len(form) != 1 or len(given) != 1 or not isinstance(given[0], UploadFile):
            raise InputRefused(
                f"send exactly one file in the field `file`; seen: {sorted(form) or 'no field'}", "/file"
            )
        part = given[0]
        name = Path((part.filename or "").replace("\\", "/")).name.strip()
        if not name or "\0" in name or not name.isprintable():
            raise InputRefused("the file has no usable name; send one of printable characters", "/file")
        name = name[-NAME_CHARACTERS:]
        limit = state.settings.upload_limit_bytes
        if (part.size or 0) > limit:
            raise Problem(
                413,
                "content_too_large",
                f"the file has {part.size} bytes; MULTIFACET_UPLOAD_LIMIT_BYTES allows {limit}",
            )
        if not part.size:
            raise InputRefused("the file is empty (0 bytes); upload one with at least one row", "/file")
        file_id = new_id("file")
        key = upload_key(caller.project_id, file_id, name)
        folder = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="upload-", dir=state.settings.work_folder)
        try:
            path = Path(folder.name) / "file"
            with path.open("wb") as sink:
                while chunk := await part.read(_CHUNK_BYTES):
                    await asyncio.to_thread(_write(sink), chunk)
            stored = await state.store.put_file(key, path)
        finally:
            await asyncio.to_thread(folder.cleanup)
    row = UploadedFile(
        id=file_id, project_id=caller.project_id, name=name, key=key, sha256=stored.sha256, size=stored.size
    )
    async with state.transaction() as session:
        saved = await FileRepository(session).add(row)
    response.headers["Location"] = f"/v1/files/{file_id}"
    return FileView.of(saved)


@router.get("", operation_id="list_files", responses=problems())
async def list_files(caller: Reader, state: State, limit: Limit = 50, before: Before = None) -> Listing[FileView]:
    """The project's files, newest first."""
    async with state.transaction() as session:
        files = await FileRepository(session).list(caller.project_id, before=before, limit=limit + 1)
    return listing(files, limit, FileView.of, lambda file: file.id)


@router.get("/{file_id}", operation_id="get_file", responses=problems(404))
async def get_file(file_id: str, caller: Reader, state: State) -> FileView:
    """One file's record."""
    return FileView.of(await _require(state, caller.project_id, file_id))


@router.get("/{file_id}/inspection", operation_id="inspect_file", responses=problems(404))
async def inspect(
    file_id: str,
    caller: Reader,
    state: State,
    mapping: Annotated[
        str,
        Query(
            max_length=2000,
            description="a ready mapping's name, `auto`, or a path or template of the instruction such as `$.turns[0]` or "
            "`{question}`",
        ),
    ] = "auto",
) -> SourceInspection:
    """Format, columns, rows and the first instructions of a file, as a job with that mapping would read it."""
    file = await _require(state, caller.project_id, file_id)
    wanted: Any = {"instruction": mapping} if mapping.startswith("$") or "{" in mapping else mapping
    source = Source.model_validate({"file": file_id, "mapping": wanted})
    try:
        return await inspect_upload(state, file, source, "")
    except InputRefused as error:
        raise InputRefused(str(error), "/mapping") from error


async def _require(state: State, project_id: str, file_id: str) -> UploadedFile:
    async with state.transaction() as session:
        file = await FileRepository(session).get(project_id, file_id)
    if file is None:
        raise not_found("file", file_id)
    return file


def _write(sink: Any) -> Callable[[bytes], int]:
    write: Callable[[bytes], int] = sink.write
    return write
