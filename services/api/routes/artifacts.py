"""What jobs made: records and bytes."""

import re
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse

from services.api.authentication import Reader
from services.api.problems import Problem, not_found
from services.api.ranges import byte_range, stream_range
from services.api.routes.common import problems
from services.api.schemas import ArtifactView, Limit, Listing
from services.api.state import State
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.tables import Artifact

router = APIRouter(tags=["artifacts"])

_SHOWN_INLINE = {"text/html", "text/plain", "text/markdown", "application/json", "image/png", "image/svg+xml"}
"""Types that a browser may show; all others are saved."""

_SANDBOX = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; font-src data:"
)
"""A report runs its own charts, but as a page of no origin: it reaches no cookie, no api and no network."""


@router.get("/v1/jobs/{job_id}/artifacts", operation_id="list_artifacts", responses=problems(404))
async def list_artifacts(
    job_id: str,
    caller: Reader,
    state: State,
    stage: Annotated[str | None, Query(max_length=100, description="only what this stage made")] = None,
    limit: Limit = 200,
    before: Annotated[str | None, Query(max_length=100, description="`next` of the page before")] = None,
) -> Listing[ArtifactView]:
    """Artifacts of a job, by stage and name: the winning parts only, without those that were removed because of their age."""
    async with state.transaction() as session:
        await JobRepository(session).require(caller.project_id, job_id)
        found = await ArtifactRepository(session).list(caller.project_id, job_id, stage=stage)
    if before is not None:
        ids = [artifact.id for artifact in found]
        found = found[ids.index(before) + 1 :] if before in ids else []
    shown = found[:limit]
    more = len(found) > limit
    return Listing(items=[ArtifactView.of(item) for item in shown], next=shown[-1].id if more else None)


@router.get("/v1/artifacts/{artifact_id}", operation_id="get_artifact", responses=problems(404))
async def get_artifact(artifact_id: str, caller: Reader, state: State) -> ArtifactView:
    """One artifact's record, with its lineage."""
    return ArtifactView.of(await _require(state, caller.project_id, artifact_id))


@router.get(
    "/v1/artifacts/{artifact_id}/content",
    operation_id="read_artifact",
    response_class=Response,
    responses={
        **problems(404, 410, 416),
        200: {"description": "The bytes.", "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}},
        206: {
            "description": "The range asked for.",
            "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
        },
        304: {"description": "The client has these bytes."},
    },
)
async def content(
    artifact_id: str,
    caller: Reader,
    state: State,
    range_header: Annotated[str | None, Header(alias="Range", max_length=100, description="one range of bytes")] = None,
    if_none_match: Annotated[str | None, Header(max_length=1000)] = None,
    if_range: Annotated[str | None, Header(max_length=200)] = None,
    download: Annotated[bool, Query(description="save, even where a browser could show it")] = False,
) -> Response:
    """The bytes of an artifact, streamed. One range per request (RFC 9110, section 14); `ETag` is the sha256."""
    artifact = await _require_bytes(state, caller.project_id, artifact_id)
    etag = _etag(artifact)
    headers = _headers(artifact, download=download)
    if if_none_match is not None and (if_none_match.strip() == "*" or etag in if_none_match):
        return Response(status_code=304, headers={"ETag": etag, "Cache-Control": headers["Cache-Control"]})
    await state.store.stat(artifact.key)
    start, end = 0, artifact.size
    status = 200
    if range_header is not None and (if_range is None or if_range.strip() == etag):
        found = byte_range(range_header, artifact.size)
        if found is not None:
            start, end = found
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{artifact.size}"
    headers["Content-Length"] = str(end - start)
    return StreamingResponse(stream_range(state.store, artifact.key, start, end), status_code=status, headers=headers)


@router.head(
    "/v1/artifacts/{artifact_id}/content",
    operation_id="measure_artifact",
    response_class=Response,
    responses={**problems(404, 410), 200: {"description": "The headers that the bytes would come with."}},
)
async def content_headers(
    artifact_id: str,
    caller: Reader,
    state: State,
    download: Annotated[bool, Query(description="as for GET")] = False,
) -> Response:
    """The headers of an artifact's bytes without the bytes: size, `ETag` (the sha256) and media type."""
    artifact = await _require_bytes(state, caller.project_id, artifact_id)
    await state.store.stat(artifact.key)
    return Response(headers={**_headers(artifact, download=download), "Content-Length": str(artifact.size)})


def _etag(artifact: Artifact) -> str:
    return f'"{artifact.sha256}"'


def _headers(artifact: Artifact, *, download: bool) -> dict[str, str]:
    name = artifact.name.rsplit("/", 1)[-1]
    inline = artifact.media_type.split(";")[0] in _SHOWN_INLINE and not download
    kind = "inline" if inline else "attachment"
    media_type = artifact.media_type
    if media_type.startswith("text/") and "charset" not in media_type:
        media_type += "; charset=utf-8"
    ascii_name = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return {
        "Content-Type": media_type,
        "ETag": _etag(artifact),
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=0, must-revalidate",
        "Content-Disposition": f"{kind}; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name)}",
        "Content-Security-Policy": _SANDBOX,
        "X-Content-Type-Options": "nosniff",
    }


async def _require_bytes(state: State, project_id: str, artifact_id: str) -> Artifact:
    artifact = await _require(state, project_id, artifact_id)
    if artifact.removed_at is not None:
        raise Problem(
            410,
            "artifact_removed",
            f"the bytes of {artifact.name!r} of stage {artifact.stage} were removed on {artifact.removed_at:%Y-%m-%d} because of "
            f"their age; submit the spec of job {artifact.job_id} as a new job to make them again",
        )
    return artifact


async def _require(state: State, project_id: str, artifact_id: str) -> Artifact:
    async with state.transaction() as session:
        artifact = await ArtifactRepository(session).get(project_id, artifact_id)
    if artifact is None:
        raise not_found("artifact", artifact_id)
    return artifact
