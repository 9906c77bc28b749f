"""Follow a job with one progress bar per stage."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from services.cli.client import ApiClient, Unreachable, job_path

END_STATES = frozenset({"succeeded", "failed", "cancelled"})
_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 30.0
_LINE_SECONDS = 30.0
"""Without a terminal, a stage that tells how far it is gets a line so often."""


def watch_job(client: ApiClient, job_id: str, console: Console) -> dict[str, Any]:
    """Show progress until the job ends; returns the job's last view. Without a terminal, prints a line per change."""
    if not sys.stdout.isatty():
        return _watch_lines(client, job_id, console)
    with Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        bars: dict[str, Any] = {}
        amounts = _Amounts()
        while True:
            job = _job(client, job_id)
            for stage in job["stages"]:
                name = stage["name"]
                if name not in bars:
                    bars[name] = progress.add_task(name, total=None, note="", start=False)
                if stage["state"] != "pending":
                    progress.start_task(bars[name])
                done, total = amounts.of(stage)
                progress.update(bars[name], completed=done, total=total, note=_note(stage))
                if stage["state"] in END_STATES:
                    progress.stop_task(bars[name])
            if job["state"] in END_STATES:
                return job
            time.sleep(_POLL_SECONDS)


def _watch_lines(client: ApiClient, job_id: str, console: Console) -> dict[str, Any]:
    shown: dict[str, str] = {}
    told_at: dict[str, float] = {}
    amounts = _Amounts()
    while True:
        job = _job(client, job_id)
        for stage in job["stages"]:
            name, state = stage["name"], stage["state"]
            done, total = amounts.of(stage)
            changed = state != shown.get(name)
            due = bool(stage.get("work")) and time.monotonic() - told_at.get(name, 0.0) >= _LINE_SECONDS
            if state == "pending" or not (changed or (state == "running" and due)):
                continue
            shown[name] = state
            told_at[name] = time.monotonic()
            amount = f" {done}/{total}" if total else ""
            console.print(f"{name:<10} {state}{amount}  {_note(stage)}".rstrip())
        if job["state"] in END_STATES:
            return job
        time.sleep(_POLL_SECONDS)


class _Amounts:
    """How much of each stage is done, of how much. A stage that ended keeps the total that it told while it ran."""

    def __init__(self) -> None:
        self._totals: dict[str, int] = {}

    def of(self, stage: dict[str, Any]) -> tuple[int, int | None]:
        work = stage.get("work") or {}
        if work.get("total"):
            self._totals[stage["name"]] = int(work["total"])
        total = self._totals.get(stage["name"])
        if stage["state"] == "succeeded" and total is not None:
            return total, total
        return _done_and_total(stage)


def _job(client: ApiClient, job_id: str) -> dict[str, Any]:
    """The job's view; an api that restarts is waited for, because the job goes on without it."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            job: dict[str, Any] = client.get(job_path(job_id))
            return job
        except Unreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)


def _done_and_total(stage: dict[str, Any]) -> tuple[int, int | None]:
    """Rows for stages that tell them, else what the step of a whole stage says."""
    ledger = stage.get("ledger") or {}
    rows = int(ledger.get("rows_out", 0)) + int(ledger.get("rows_rejected", 0))
    if stage["state"] == "succeeded":
        return max(rows, 1), max(rows, 1)
    work = stage.get("work")
    if work:
        return int(work["done"]), work["total"]
    expected = stage.get("rows_expected")
    return (rows, int(expected)) if expected else (0, None)


def _note(stage: dict[str, Any]) -> str:
    if work := stage.get("work"):
        return escape(str(work["note"]))
    ledger = stage.get("ledger") or {}
    if stage["kind"] == "select" and stage["state"] == "succeeded":
        # What is not asked was not turned away: other splits, and what was not drawn.
        return f"{ledger['rows_out']} instructions are asked, {ledger['facets_out']} times"
    rejected = int(ledger.get("facets_rejected", 0)) or int(ledger.get("rows_rejected", 0))
    unit = "facets" if ledger.get("facets_in") else "rows"
    return f"{rejected} {unit} rejected" if rejected else ""


def print_outcome(client: ApiClient, job: dict[str, Any], console: Console) -> None:
    """How the job ended, what it cost, which models it registered, and why it failed if it did."""
    cost = job.get("cost_micro_usd", 0) / 1e6
    made_by = " (simulated prices: nothing was paid)" if job.get("teacher_is_simulator") else ""
    console.print(f"job {job['id']} {job['state']}; cost ${cost:.4f}{made_by}")
    if job["spec"].get("train"):
        for model in reversed(client.get("/v1/registry/models", job=job["id"], limit=200)["items"]):
            what = f"{model['method']}, {model['tuning']}" + (", adapters alone" if model["adapter_only"] else "")
            console.print(
                f"model {escape(model['name'])} ({what}): multifacet models pull {model['id']} FOLDER", highlight=False
            )
    if job.get("error"):
        error = job["error"]
        console.print(f"[red]{escape(str(error.get('code')))}[/red]: {escape(error_text(error))}", highlight=False)


def error_text(error: dict[str, Any]) -> str:
    """What an error of a job says, and the place in its spec that it is about, where it names one."""
    pointer = error.get("pointer")
    return f"{error.get('message')}" + (f" (at {pointer} of the spec)" if pointer else "")
