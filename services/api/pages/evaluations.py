"""Pages about evaluations: the list, and one with its leaderboard, live while the job runs, beside another if wanted."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from services.api.evaluation_views import EvaluationSummary, EvaluationView
from services.api.evaluations import read_evaluation
from services.api.pages.rendering import Viewer, plotly_json, render
from services.api.state import ApiState, State
from shared.domain.plan import StageKind
from shared.domain.states import JOB_END_STATES
from shared.metadata.repositories.jobs import JobRepository
from shared.pages.evaluations import (
    CHART_TITLES,
    differences,
    evaluation_charts,
    headlines,
    leaderboard,
    unlike,
)

router = APIRouter()

_PAGE_EVALUATIONS = 50
_TO_COMPARE_WITH = 100


@router.get("/evaluations")
async def evaluations_page(
    request: Request, caller: Viewer, state: State, before: Annotated[str | None, Query(max_length=100)] = None
) -> Response:
    """Jobs that evaluate, newest first."""
    found = await _list(state, caller.project_id, _PAGE_EVALUATIONS + 1, before)
    shown = found[:_PAGE_EVALUATIONS]
    return render(
        request,
        "evaluations.html",
        evaluations=[{"job": one, "headlines": dict(headlines(one.headline))} for one in shown],
        next=shown[-1].id if len(found) > _PAGE_EVALUATIONS else None,
        before=before,
    )


@router.get("/evaluations/{job_id}")
async def evaluation_page(
    request: Request,
    job_id: str,
    caller: Viewer,
    state: State,
    beside: Annotated[str | None, Query(max_length=100, description="id of another evaluation")] = None,
) -> Response:
    """One evaluation, or two beside each other."""
    values = await _one(state, caller.project_id, job_id, beside)
    others = [one for one in await _list(state, caller.project_id, _TO_COMPARE_WITH) if one.id != job_id]
    return render(request, "evaluation.html", **values, others=others, may_write=caller.may("write"))


@router.get("/evaluations/{job_id}/live")
async def evaluation_live(
    request: Request,
    job_id: str,
    caller: Viewer,
    state: State,
    beside: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    """The live part of an evaluation's page."""
    values = await _one(state, caller.project_id, job_id, beside)
    return render(request, "_evaluation.html", **values, may_write=caller.may("write"))


async def _list(state: ApiState, project_id: str, limit: int, before: str | None = None) -> list[EvaluationSummary]:
    async with state.transaction() as session:
        found = await JobRepository(session).list_with(project_id, StageKind.EVALUATE, before=before, limit=limit)
    return [EvaluationSummary.of(*pair) for pair in found]


async def _one(state: ApiState, project_id: str, job_id: str, beside: str | None) -> dict[str, Any]:
    view = await read_evaluation(state, project_id, job_id)
    shown = [_shown(view)]
    differing: list[str] = []
    if beside:
        other = await read_evaluation(state, project_id, beside)
        shown.append(_shown(other))
        if view.evaluation is not None and other.evaluation is not None:
            differing = unlike(view.evaluation, other.evaluation)
    return {
        "job": view.job,
        "ended": view.job.state in JOB_END_STATES,
        "shown": shown,
        "beside": beside or None,
        "differing": differing,
    }


def _shown(view: EvaluationView) -> dict[str, Any]:
    """What the template needs of one evaluation; without figures what is known of its job alone."""
    evaluation = view.evaluation
    return {
        "job": view.job,
        "evaluation": evaluation,
        "report": next((item for item in view.files if item.name == "report.html"), None),
        "files": view.files,
        "board": None if evaluation is None else leaderboard(evaluation),
        "differences": [] if evaluation is None else differences(evaluation),
        "charts": []
        if evaluation is None
        else [
            {"title": CHART_TITLES[name], "figure": plotly_json(figure)}
            for name, figure in evaluation_charts(evaluation).items()
        ],
    }
