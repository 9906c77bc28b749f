"""Pages about benches: the list, and the review of one, an item at a time."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from services.api.bench_views import fault_counts
from services.api.benches import BenchItemOf, ReviewedBench
from services.api.pages.rendering import Viewer, render
from services.api.routes.benches import reviewed_bench
from services.api.state import State
from shared.domain.benches import Outcome
from shared.metadata.repositories.benches import BenchRepository

router = APIRouter()

_PAGE_BENCHES = 50

Show = Literal["undecided", "kept", "dropped", "all"]
Step = Literal["here", "next", "previous"]


@router.get("/benches")
async def benches_page(
    request: Request, caller: Viewer, state: State, before: Annotated[str | None, Query(max_length=100)] = None
) -> Response:
    """Benches, newest first, with how far their review has come."""
    async with state.transaction() as session:
        repository = BenchRepository(session)
        found = await repository.list(caller.project_id, before=before, limit=_PAGE_BENCHES + 1)
        shown = found[:_PAGE_BENCHES]
        decided = await repository.decided([bench.id for bench in shown])
    return render(
        request,
        "benches.html",
        benches=[{"bench": bench, "decided": decided.get(bench.id, 0)} for bench in shown],
        next=shown[-1].id if len(found) > _PAGE_BENCHES else None,
        before=before,
        may_write=caller.may("write"),
    )


@router.get("/benches/{bench_id}")
async def bench_page(request: Request, bench_id: str, caller: Viewer, state: State) -> Response:
    """The frame of a review. The item comes as a part of its own, since the browser alone knows who reviews."""
    reviewed = await reviewed_bench(state, caller.project_id, bench_id)
    return render(
        request,
        "bench.html",
        bench=reviewed.bench,
        left_out=fault_counts(reviewed.contents.faults),
        may_write=caller.may("write"),
    )


@router.get("/benches/{bench_id}/review")
async def bench_review(
    request: Request,
    bench_id: str,
    caller: Viewer,
    state: State,
    reviewer: Annotated[str, Query(max_length=80)] = "",
    show: Show = "undecided",
    item: Annotated[str | None, Query(max_length=200)] = None,
    step: Step = "here",
) -> Response:
    """One item of those with the outcome `show`, as this reviewer decided; with the counts.

    Without `item` it is the first one: of the undecided ones, where the reviewer left off.
    """
    reviewed = await reviewed_bench(state, caller.project_id, bench_id)
    name = reviewer.strip()
    outcome = None if show == "all" else Outcome(show)
    chosen = reviewed.chosen(outcome, name or None)
    found = _step(reviewed, chosen, item, step)
    return render(
        request,
        "_bench_review.html",
        item=found,
        number=None if found is None else next((n for n, one in enumerate(chosen, 1) if one.id == found.id), None),
        chosen=len(chosen),
        total=len(reviewed.items),
        show=show,
        reviewer=name,
        own=None if found is None else next((one for one in found.reviews if one.reviewer == name), None),
        others=[] if found is None else [one for one in found.reviews if one.reviewer != name],
        mine={outcome.value: count for outcome, count in reviewed.counts(name).items()},
        everybody={outcome.value: count for outcome, count in reviewed.counts().items()},
        may_write=caller.may("write"),
    )


def _step(reviewed: ReviewedBench, chosen: list[BenchItemOf], identifier: str | None, step: Step) -> BenchItemOf | None:
    """The item itself, or the one behind or before it among the chosen ones, from the other end where there is none."""
    here = None if identifier is None else reviewed.find(identifier)
    if here is not None and step == "here":
        return here
    if not chosen:
        return None
    if here is None:
        return chosen[0]
    if step == "next":
        return next((item for item in chosen if item.position > here.position), chosen[0])
    return next((item for item in reversed(chosen) if item.position < here.position), chosen[-1])
