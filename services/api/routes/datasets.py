"""Data sets of a job: what there is, rows with filters, counts of the preference hierarchy."""

from typing import Annotated

from fastapi import APIRouter, Query

from services.api.authentication import Caller, Reader
from services.api.datasets import WAIT_SECONDS, DataSet, RowFilter, data_sets
from services.api.problems import Problem
from services.api.routes.common import problems
from services.api.schemas import DatasetRow, DatasetView, Hierarchy, Listing, RowPage
from services.api.state import State
from shared.domain.plan import COLLECTION_PLAN
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.tables import Job

router = APIRouter(prefix="/v1/jobs/{job_id}/datasets", tags=["datasets"])

Name = Annotated[str, Query(max_length=100, description="a data set of the job", examples=["collection"])]
Split = Annotated[str | None, Query(max_length=100, description="a split; default: train, else the first one")]
Text = Annotated[str | None, Query(max_length=500)]

_STAGE_ORDER = {plan.name: number for number, plan in enumerate(COLLECTION_PLAN)}


@router.get("", operation_id="list_datasets", responses=problems(404))
async def list_datasets(job_id: str, caller: Reader, state: State) -> Listing[DatasetView]:
    """What can be paged: the collection and its exports, rejected rows, and the rows of each stage as far as they are done."""
    _, found = await _all(state, caller, job_id)
    return Listing(items=[_view(data) for data in found])


@router.get("/rows", operation_id="read_rows", responses=problems(404, 410))
async def rows(
    job_id: str,
    caller: Reader,
    state: State,
    dataset: Name = "collection",
    split: Split = None,
    offset: Annotated[int, Query(ge=0, le=2**40, description="rows to pass over, of those that pass the filter")] = 0,
    limit: Annotated[int, Query(ge=1, le=200, description="rows per page")] = 20,
    dimension: Text = None,
    subdimension: Text = None,
    pole: Text = None,
    contains: Annotated[
        str | None, Query(min_length=1, max_length=500, description="text in any text field, in whatever case")
    ] = None,
    reason: Annotated[
        str | None, Query(max_length=500, description="reason of a rejection (of the row or of a facet)")
    ] = None,
    wait: Annotated[
        float,
        Query(ge=0, le=30, allow_inf_nan=False, description="seconds that a text search may take to fill the page"),
    ] = WAIT_SECONDS,
) -> RowPage:
    """A page of rows, cut from the Parquet row groups that hold them.

    Dimension, subdimension and pole must hold for one and the same preference of the row. A text search that could not
    fill the page in time answers with what it found and `matched_is_exact: false`; the same request again gives more.
    """
    data = await _find(state, caller, job_id, dataset, split)
    wanted = RowFilter(dimension=dimension, subdimension=subdimension, pole=pole, contains=contains, reason=reason)
    page = await state.datasets.page(data, wanted, offset, limit, wait)
    return RowPage(
        dataset=data.dataset,
        split=data.split,
        offset=offset,
        limit=limit,
        rows_total=data.rows,
        rows_matched=page.matched,
        matched_is_exact=page.exact,
        rows=[DatasetRow(position=position, row=row) for position, row in page.rows],
    )


@router.get("/facets", operation_id="count_facets", responses=problems(404, 410))
async def facets(
    job_id: str,
    caller: Reader,
    state: State,
    dataset: Name = "collection",
    split: Split = None,
    top: Annotated[int, Query(ge=0, le=200, description="keywords listed per subdimension")] = 12,
) -> Hierarchy:
    """Counts of preferences by dimension, subdimension and keywords, and of rejections by reason."""
    data = await _find(state, caller, job_id, dataset, split)
    counts = await state.datasets.hierarchy(data, top)
    return Hierarchy.model_validate({"dataset": data.dataset, "split": data.split, **counts})


async def _all(state: State, caller: Caller, job_id: str) -> tuple[Job, list[DataSet]]:
    async with state.transaction() as session:
        job = await JobRepository(session).require(caller.project_id, job_id)
        artifacts = await ArtifactRepository(session).list(caller.project_id, job_id)
    found = data_sets(artifacts)
    found.sort(
        key=lambda data: (-_STAGE_ORDER.get(data.stage, -1), data.dataset != "collection", data.dataset, data.split)
    )
    return job, found


async def _find(state: State, caller: Caller, job_id: str, dataset: str, split: str | None) -> DataSet:
    job, found = await _all(state, caller, job_id)
    named = [data for data in found if data.dataset == dataset]
    if split is None:
        chosen = sorted(named, key=lambda data: data.split != "train")
    else:
        chosen = [data for data in named if data.split == split]
    if not chosen and job.artifacts_removed_at is not None:
        raise Problem(
            410,
            "artifact_removed",
            f"the data of job {job_id} were removed on {job.artifacts_removed_at:%Y-%m-%d} because of their age; submit its "
            "spec as a new job to make them again",
        )
    if not chosen:
        there = ", ".join(sorted({f"{data.dataset}/{data.split}" for data in found})) or "none yet"
        wanted = dataset if split is None else f"{dataset}/{split}"
        raise Problem(404, "not_found", f"job {job_id} has no data set {wanted}; it has: {there}")
    return chosen[0]


def _view(data: DataSet) -> DatasetView:
    return DatasetView(
        dataset=data.dataset,
        split=data.split,
        stage=data.stage,
        rows=data.rows,
        bytes=sum(file.reference.size for file in data.files),
        artifacts=[file.artifact_id for file in data.files],
    )
