"""The data explorer: instruction > facets > system message > response, with filters, the sunburst, and what was rejected."""

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from services.api.datasets import DataSet, RowFilter, data_sets
from services.api.pages.rendering import Viewer, plotly_json, render
from services.api.problems import Problem
from services.api.state import State
from shared.charts.hierarchy import preference_sunburst
from shared.domain.errors import InputRefused
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.tables import Job

router = APIRouter()

_PREFERRED = ("respond", "compose", "augment", "collection", "curate")
_TOP_PREFERENCES = 40
_QUICKLY_COUNTED_ROWS = 5_000

_FILTERS = ("dimension", "subdimension", "pole", "contains", "reason")

Text = Annotated[str | None, Field(max_length=200)]


class ExplorerQuery(BaseModel):
    """Every choice is in the address, so that a view can be shared."""

    dataset: Text = None
    split: Text = None
    dimension: Text = None
    subdimension: Text = None
    pole: Text = None
    contains: Text = None
    reason: Text = None
    offset: int = Field(0, ge=0, le=2**40)
    limit: int = Field(10, ge=1, le=100)

    @property
    def wanted(self) -> dict[str, str | None]:
        """The filter; an empty field of the form filters nothing."""
        return {name: getattr(self, name) or None for name in _FILTERS}

    def address(self, chosen: DataSet, offset: int) -> str:
        """This view from another row on, as a query."""
        values = {
            "dataset": chosen.dataset,
            "split": chosen.split,
            **self.wanted,
            "limit": self.limit,
            "offset": offset,
        }
        return urlencode({name: value for name, value in values.items() if value is not None})


View = Annotated[ExplorerQuery, Query()]


@router.get("/jobs/{job_id}/data")
async def explorer_page(request: Request, job_id: str, caller: Viewer, state: State, view: View) -> Response:
    """A page of rows, with the overview where its counts are known; else the page fetches the overview by itself."""
    job, found, chosen = await _data_sets(state, caller.project_id, job_id, view)
    values: dict[str, Any] = {
        "job": job,
        "data_sets": found,
        "chosen": chosen,
        "offset": view.offset,
        "wanted": view.wanted,
    }
    if chosen is None:
        return render(request, "explorer.html", page=None, error=None, **values)
    page = error = None
    try:
        page = await state.datasets.page(chosen, RowFilter(**view.wanted), view.offset, view.limit)
    except InputRefused as refused:
        error = str(refused)
    hierarchy = state.datasets.known_hierarchy(chosen, _TOP_PREFERENCES)
    if hierarchy is None and chosen.rows <= _QUICKLY_COUNTED_ROWS:
        hierarchy = await state.datasets.hierarchy(chosen, _TOP_PREFERENCES)
    return render(
        request,
        "explorer.html",
        page=page,
        error=error,
        here_query=view.address(chosen, view.offset),
        next_query=view.address(chosen, view.offset + view.limit),
        back_query=view.address(chosen, max(0, view.offset - view.limit)),
        **_overview(hierarchy),
        **values,
    )


@router.get("/jobs/{job_id}/data/overview")
async def explorer_overview(request: Request, job_id: str, caller: Viewer, state: State, view: View) -> Response:
    """The filters with their choices, and the sunburst; counted now if need be."""
    job, found, chosen = await _data_sets(state, caller.project_id, job_id, view)
    if chosen is None:
        raise Problem(404, "not_found", "this job has no data yet")
    hierarchy = await state.datasets.hierarchy(chosen, _TOP_PREFERENCES)
    return render(
        request,
        "_overview.html",
        job=job,
        data_sets=found,
        chosen=chosen,
        wanted=view.wanted,
        **_overview(hierarchy),
    )


async def _data_sets(
    state: State, project_id: str, job_id: str, view: ExplorerQuery
) -> tuple[Job, list[DataSet], DataSet | None]:
    async with state.transaction() as session:
        job = await JobRepository(session).require(project_id, job_id)
        found = data_sets(await ArtifactRepository(session).list(project_id, job_id))
    found = [data for data in found if not data.dataset.endswith("-provenance")]
    return job, found, _chosen(found, view.dataset, view.split)


def _overview(hierarchy: dict[str, Any] | None) -> dict[str, Any]:
    sunburst = None
    if hierarchy and hierarchy["dimensions"]:
        sunburst = plotly_json(preference_sunburst(_sunburst_records(hierarchy), height=460))
    return {"hierarchy": hierarchy, "sunburst": sunburst}


def _chosen(found: list[DataSet], dataset: str | None, split: str | None) -> DataSet | None:
    if dataset is not None:
        for data in found:
            if data.dataset == dataset and split in {None, data.split}:
                return data
        raise Problem(404, "not_found", f"this job has no data set {dataset!r} with split {split or 'any'!r}")
    for name in _PREFERRED:
        for data in found:
            if data.dataset == name:
                return data
    return found[0] if found else None


def _sunburst_records(hierarchy: dict[str, Any]) -> list[dict[str, Any]]:
    records = []
    for dimension in hierarchy["dimensions"]:
        for subdimension in dimension["subdimensions"]:
            place = {"dimension": dimension["name"], "subdimension": subdimension["name"]}
            records += [
                {**place, "preference": preference["name"], "count": preference["count"]}
                for preference in subdimension["preferences"]
            ]
            if subdimension["other"]:
                records.append({**place, "preference": None, "count": subdimension["other"]})
    return records
