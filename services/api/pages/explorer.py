"""The data explorer: instruction > facets > system message > response, with filters, the sunburst, and what was rejected."""

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from services.api.datasets import DataSet, RowFilter, data_sets
from services.api.pages.rendering import Viewer, plotly_json, render
from services.api.problems import Problem
from services.api.state import State
from shared.charts.hierarchy import preference_sunburst
from shared.domain.errors import InputRefused
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.jobs import JobRepository

router = APIRouter()

_PREFERRED = ("respond", "compose", "augment", "collection", "curate")
_TOP_PREFERENCES = 40

Text = Annotated[str | None, Query(max_length=200)]


@router.get("/jobs/{job_id}/data")
async def explorer_page(
    request: Request,
    job_id: str,
    caller: Viewer,
    state: State,
    dataset: Text = None,
    split: Text = None,
    dimension: Text = None,
    subdimension: Text = None,
    pole: Text = None,
    contains: Text = None,
    reason: Text = None,
    offset: Annotated[int, Query(ge=0, le=2**40)] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
) -> Response:
    """Every choice is in the address, so that a view can be shared."""
    async with state.transaction() as session:
        job = await JobRepository(session).require(caller.project_id, job_id)
        found = data_sets(await ArtifactRepository(session).list(caller.project_id, job_id))
    found = [data for data in found if not data.dataset.endswith("-provenance")]
    chosen = _chosen(found, dataset, split)
    values: dict[str, Any] = {
        "job": job,
        "data_sets": found,
        "chosen": chosen,
        "offset": offset,
        "limit": limit,
        "error": None,
    }
    wanted = {
        "dimension": dimension,
        "subdimension": subdimension,
        "pole": pole,
        "contains": contains,
        "reason": reason,
    }
    values["wanted"] = wanted = {name: text or None for name, text in wanted.items()}
    if chosen is None:
        return render(
            request, "explorer.html", page=None, hierarchy=None, sunburst=None, next_query="", back_query="", **values
        )
    page = hierarchy = sunburst = None
    try:
        page = await state.datasets.page(chosen, RowFilter(**wanted), offset, limit)
        hierarchy = await state.datasets.hierarchy(chosen, _TOP_PREFERENCES)
    except InputRefused as error:
        values["error"] = str(error)
    if hierarchy is not None and hierarchy["dimensions"]:
        sunburst = plotly_json(preference_sunburst(_sunburst_records(hierarchy), height=460))

    def query(**changes: Any) -> str:
        chosen_values = {"dataset": chosen.dataset, "split": chosen.split, **wanted, "limit": limit, **changes}
        return urlencode({name: value for name, value in chosen_values.items() if value is not None})

    return render(
        request,
        "explorer.html",
        page=page,
        hierarchy=hierarchy,
        sunburst=sunburst,
        here_query=query(offset=offset),
        next_query=query(offset=offset + limit),
        back_query=query(offset=max(0, offset - limit)),
        **values,
    )


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
