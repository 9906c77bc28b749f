"""Benches: what candidates are asked and graded on, and what people decided about each item."""

import asyncio
import re
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Query, Response
from sqlalchemy.exc import IntegrityError

from services.api.authentication import Reader, Writer
from services.api.bench_views import (
    SHOWN_FAULTS,
    BenchItemPage,
    BenchItemView,
    BenchRequest,
    BenchSummary,
    BenchView,
    RejectedLine,
    RejectedPage,
    ReviewRequest,
    ReviewView,
    fault_counts,
)
from services.api.benches import ReviewedBench, bench_gone
from services.api.problems import Problem, not_found
from services.api.routes.common import listing, problems
from services.api.schemas import Before, Limit, Listing
from services.api.state import ApiState, State
from services.api.submission import refuse_unstorable
from shared.artifacts.protocol import ObjectNotFound
from shared.bench_layout.files import BenchContents, write_bench_lines, write_bench_table
from shared.domain.benches import BenchRegistration, Outcome
from shared.domain.errors import InputRefused
from shared.domain.rows import InstructionRow
from shared.metadata.repositories.benches import BenchRepository
from shared.metadata.repositories.files import FileRepository
from shared.stages.answer_inputs import bench_object

router = APIRouter(prefix="/v1/benches", tags=["benches"])

_FORMATS = {"jsonl": "application/jsonl", "parquet": "application/vnd.apache.parquet"}
_LAYOUTS = {"multifaceted_bench": {"jsonl": write_bench_lines, "parquet": write_bench_table}}
_BYTES = {"schema": {"type": "string", "format": "binary"}}

Offset = Annotated[int, Query(ge=0, le=2**31 - 1, description="how many to pass over")]
PageLimit = Annotated[int, Query(ge=1, le=200, description="how many per page")]


@router.get("", operation_id="list_benches", responses=problems())
async def list_benches(caller: Reader, state: State, limit: Limit = 50, before: Before = None) -> Listing[BenchSummary]:
    """The project's benches, newest first: those that jobs made and those of uploaded files."""
    async with state.transaction() as session:
        found = await BenchRepository(session).list(caller.project_id, before=before, limit=limit + 1)
    return listing(found, limit, BenchSummary.summary_of, lambda bench: bench.id)


@router.post("", status_code=201, operation_id="add_bench", responses=problems(409, 413, 415))
async def add_bench(wanted: BenchRequest, response: Response, caller: Writer, state: State) -> BenchView:
    """Register an uploaded file in the layout of the Multifaceted Bench. Every line is looked at: those that are no item are
    named and counted, and where no line is one the file is refused."""
    refuse_unstorable(wanted)
    async with state.transaction() as session:
        file = await FileRepository(session).get(caller.project_id, wanted.file)
        registered = await BenchRepository(session).of_file(caller.project_id, wanted.file)
    if file is None:
        raise InputRefused(
            f"there is no uploaded file {wanted.file!r}; POST it to /v1/files and set the id it returns", "/file"
        )
    if registered is not None:
        raise _registered(wanted.file, registered.id)
    try:
        contents = await state.benches.contents(file, "/file")
    except ObjectNotFound as error:
        raise InputRefused(
            f"the bytes of file {file.id!r} are gone from the store; upload it again", "/file"
        ) from error
    if not contents.rows:
        raise _nothing_usable(contents)
    registration = BenchRegistration(wanted.name or file.name[:120], len(contents.rows), contents.items)
    try:
        async with state.transaction() as session:
            repository = BenchRepository(session)
            bench_id = await repository.add(caller.project_id, registration, file_id=file.id)
            bench = await repository.require(caller.project_id, bench_id)
    except IntegrityError as error:
        raise _registered(wanted.file, None) from error
    response.headers["Location"] = f"/v1/benches/{bench_id}"
    return BenchView.of(ReviewedBench.of(bench, contents, []))


@router.get("/{bench_id}", operation_id="get_bench", responses=problems(404, 410))
async def get_bench(bench_id: str, caller: Reader, state: State) -> BenchView:
    """A bench with what its review came to so far, in all and by reviewer."""
    return BenchView.of(await reviewed_bench(state, caller.project_id, bench_id))


@router.get("/{bench_id}/items", operation_id="list_bench_items", responses=problems(404, 410))
async def list_items(
    bench_id: str,
    caller: Reader,
    state: State,
    outcome: Annotated[Outcome | None, Query(description="only items with this outcome")] = None,
    reviewer: Annotated[
        str | None, Query(max_length=80, description="whose word `outcome` is about; default: all of them together")
    ] = None,
    offset: Offset = 0,
    limit: PageLimit = 20,
) -> BenchItemPage:
    """Items with their rubrics and what was decided about them, in the order of the bench."""
    reviewed = await reviewed_bench(state, caller.project_id, bench_id)
    chosen = reviewed.chosen(outcome, reviewer)
    return BenchItemPage(
        offset=offset,
        limit=limit,
        items_total=len(reviewed.items),
        items_matched=len(chosen),
        items=[BenchItemView.of(item) for item in chosen[offset : offset + limit]],
    )


@router.get("/{bench_id}/items/{item_id}", operation_id="get_bench_item", responses=problems(404, 410))
async def get_item(bench_id: str, item_id: str, caller: Reader, state: State) -> BenchItemView:
    """One item."""
    reviewed = await reviewed_bench(state, caller.project_id, bench_id)
    item = reviewed.find(item_id)
    if item is None:
        raise not_found("item", item_id)
    return BenchItemView.of(item)


@router.put(
    "/{bench_id}/items/{item_id}/review",
    operation_id="review_bench_item",
    responses=problems(404, 410, 413, 415),
)
async def review_item(
    bench_id: str, item_id: str, decision: ReviewRequest, caller: Writer, state: State
) -> BenchItemView:
    """Keep or drop an item, and say why. What more reviewers drop than keep is not asked and not exported."""
    refuse_unstorable(decision)
    reviewed = await reviewed_bench(state, caller.project_id, bench_id)
    if reviewed.find(item_id) is None:
        raise not_found("item", item_id)
    async with state.transaction() as session:
        await BenchRepository(session).review(
            bench_id, item_id, decision.reviewer, decision.decision.value, decision.reason
        )
    return await get_item(bench_id, item_id, caller, state)


@router.get("/{bench_id}/rejected", operation_id="list_rejected_lines", responses=problems(404, 410))
async def list_rejected(
    bench_id: str, caller: Reader, state: State, offset: Offset = 0, limit: PageLimit = 100
) -> RejectedPage:
    """The lines of an uploaded file that are no items, with the reason of each."""
    reviewed = await reviewed_bench(state, caller.project_id, bench_id)
    faults = reviewed.contents.faults
    lines = [RejectedLine.of(fault) for fault in faults[offset : offset + limit]]
    return RejectedPage(offset=offset, limit=limit, lines_total=len(faults), lines=lines)


@router.get(
    "/{bench_id}/export",
    operation_id="export_bench",
    response_class=Response,
    responses={
        **problems(404, 409, 410),
        200: {"description": "The file.", "content": dict.fromkeys(_FORMATS.values(), _BYTES)},
    },
)
async def export(
    bench_id: str,
    caller: Reader,
    state: State,
    layout: Annotated[Literal["multifaceted_bench"], Query(description="the released columns")] = "multifaceted_bench",
    file_format: Annotated[Literal["jsonl", "parquet"], Query(alias="format")] = "jsonl",
) -> Response:
    """The items in the layout of the Multifaceted Bench, exactly its columns, without those that the review dropped."""
    reviewed = await reviewed_bench(state, caller.project_id, bench_id)
    rows = reviewed.rows_without_dropped
    if not rows:
        raise Problem(
            409, "bench_empty", f"the review dropped every item of bench {bench_id}: nothing is left to export"
        )
    content = await asyncio.to_thread(partial(_exported, rows, layout, file_format))
    return _download(content, f"{reviewed.bench.name}.{file_format}", _FORMATS[file_format])


@router.get(
    "/{bench_id}/reviews",
    operation_id="export_reviews",
    response_class=Response,
    responses={**problems(404, 410), 200: {"description": "JSON lines.", "content": {_FORMATS["jsonl"]: _BYTES}}},
)
async def export_reviews(bench_id: str, caller: Reader, state: State) -> Response:
    """All decisions as JSON lines: {item, row_id, facet_index, position, reviewer, decision, reason, decided_at, outcome}.

    `outcome` is what all reviewers of the item together say.
    """
    reviewed = await reviewed_bench(state, caller.project_id, bench_id)
    lines = [
        orjson.dumps(
            {
                "item": item.id,
                "row_id": item.row.row_id,
                "facet_index": item.facet.index,
                "position": item.position,
                **ReviewView.model_validate(review).model_dump(mode="json"),
                "outcome": item.outcome.value,
            }
        )
        + b"\n"
        for item in reviewed.items
        for review in item.reviews
    ]
    return _download(b"".join(lines), f"{reviewed.bench.name}.reviews.jsonl", _FORMATS["jsonl"])


async def reviewed_bench(state: ApiState, project_id: str, bench_id: str) -> ReviewedBench:
    """A bench with its items and reviews. Raises BenchNotFound, and a 410 problem where nobody has its items any more."""
    async with state.transaction() as session:
        repository = BenchRepository(session)
        bench = await repository.require(project_id, bench_id)
        held = await bench_object(session, bench)
        reviews = await repository.reviews(bench_id)
    if held is None:
        raise bench_gone(bench_id)
    try:
        contents = await state.benches.contents(held, "")
    except ObjectNotFound as error:
        raise bench_gone(bench_id) from error
    return ReviewedBench.of(bench, contents, reviews)


def _registered(file_id: str, bench_id: str | None) -> Problem:
    known = "" if bench_id is None else f" as {bench_id}"
    extensions = {} if bench_id is None else {"bench": bench_id}
    return Problem(
        409, "bench_exists", f"the file {file_id} is registered as a bench already{known}", extensions=extensions
    )


def _nothing_usable(contents: BenchContents) -> Problem:
    counts = fault_counts(contents.faults)
    reasons = ", ".join(f"{reason}: {count}" for reason, count in counts.items())
    shown = contents.faults[:SHOWN_FAULTS]
    return Problem(
        422,
        "no_usable_item",
        f"no line of the file is an item that can be asked and graded ({reasons}); correct them and upload the file again",
        errors=[
            {"pointer": "/file", "detail": f"line {fault.row + 1}: {fault.reason}: {fault.detail}"} for fault in shown
        ],
        extensions={"left_out": counts},
    )


def _exported(rows: list[InstructionRow], layout: str, file_format: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder) / f"bench.{file_format}"
        _LAYOUTS[layout][file_format](path, rows)
        return path.read_bytes()


def _download(content: bytes, name: str, media_type: str) -> Response:
    ascii_name = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    quoted = quote(name.encode("utf-8", "replace"))
    return Response(
        content,
        media_type=media_type,
        headers={
            "Cache-Control": "no-store",
            "Content-Disposition": f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quoted}",
            "X-Content-Type-Options": "nosniff",
        },
    )
