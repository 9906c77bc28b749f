"""`multifacet preview`: the rows of trainings as tokens with their loss mask, of a job that ran or of a spec as a dry run."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from services.cli.client import ApiClient, job_path
from services.cli.one_shot import agreed
from services.cli.preview import print_preview, read_preview
from services.cli.spec import read_spec
from services.cli.uploads import with_uploads
from services.cli.watch import error_text, watch_job
from shared.domain.errors import MultifacetError
from shared.domain.training_presets import training_preset, training_preset_names

_SPEC_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_FILES = ("preview.json", "preview.html")
_WAITING = frozenset({"pending", "running"})


def is_spec(target: str) -> bool:
    """Whether what was typed is a spec file and no job's id: a file, or called like one."""
    return Path(target).is_file() or Path(target).suffix.lower() in _SPEC_SUFFIXES


def submit_dry_run(
    client: ApiClient, spec: Path, uploads: Sequence[Path], console: Console, *, confirmed: bool
) -> str | None:
    """Submit the spec with trainings that train nothing, and follow the job to its end; returns its id, or None where a
    person declined the cost of the collection. Raises MultifacetError for a spec that is refused, before or by the checks of
    its trainings."""
    body = with_uploads(client, read_spec(spec), uploads)
    if not body.get("train"):
        raise MultifacetError(f"{spec} has no `train`, so there are no rows to show; add a training")
    # The spec is judged as it is written: what a dry run leaves out, such as who starts from whom, is part of it.
    estimate = client.post("/v1/jobs/estimate", body)
    if body.get("sources"):
        console.print("the spec has sources: their collection is made first, as by `submit`, for its rows to be shown")
        teacher = body["teacher"]
        named = f"{teacher['provider']}/{teacher['model']}"
        if teacher["provider"] != "simulator" and not agreed(estimate, named, console, confirmed=confirmed):
            return None
    job = client.post("/v1/jobs", as_dry_run(body))
    console.print(f"dry run {job['id']} at {client.url}/jobs/{job['id']}", highlight=False)
    job = watch_job(client, job["id"], console)
    if job["state"] == "succeeded":
        return str(job["id"])
    if job["state"] == "cancelled":
        raise MultifacetError(f"the dry run {job['id']} was cancelled; nothing can be shown")
    error = job.get("error") or {}
    where = f"{error['stage']!r} " if error.get("stage") else ""
    raise MultifacetError(f"the dry run was refused: {where}{error_text(error)}")


def as_dry_run(body: dict[str, Any]) -> dict[str, Any]:
    """A copy of a spec whose trainings are dry runs. A dry run leaves no model, so a training that starts from an earlier one
    of the job takes that one's base: tokenizer and chat template of both are the same (but for a base with random weights,
    whose tokenizer is made of the rows)."""
    body = deepcopy(body)
    body["name"] = f"dry run of {body.get('name', 'a collection')}"[:120]
    bases: dict[str, Any] = {}
    for training in body["train"]:
        base = training.get("base") or _base_of_preset(training.get("preset"))
        if isinstance(base, dict) and base.get("stage") in bases:
            base = bases[base["stage"]]
            training["base"] = base
        bases[training.get("name", "train")] = base
        training["dry_run"] = True
        training.pop("push_to_hub", None)
    return body


def show_previews(
    client: ApiClient, job_id: str, stage: str | None, folder: Path, rows: int, console: Console
) -> list[Path]:
    """Print the preview of each training of a job (of the one called `stage`) and write its files below `folder`, as `pull`
    does; returns the pages. Raises MultifacetError where there is none to show."""
    job = client.get(job_path(job_id))
    names = [training["name"] for training in job["spec"].get("train", ())]
    if not names:
        raise MultifacetError(f"job {job_id} has no training; previews show the rows of trainings")
    if stage is not None and stage not in names:
        raise MultifacetError(f"job {job_id} has no training {stage!r}; its trainings: {', '.join(names)}")
    states = {item["name"]: item["state"] for item in job["stages"]}
    pages, missing = [], []
    for name in names if stage is None else [stage]:
        files = _fetched(client, job_id, name, folder)
        if files is None:
            missing.append(f"training {name!r} is {states[name]} and has left no preview")
            continue
        data, page = files
        console.print(f"\n[bold]training {escape(name)}[/bold]", highlight=False)
        print_preview(read_preview(data), console, rows=rows)
        console.print(f"the same as a page, with more rows: {escape(str(page.resolve()))}", highlight=False)
        pages.append(page)
    if not pages:
        later = any(states[name] in _WAITING for name in names)
        advice = "ask again when its training has ended" if later else "see with `multifacet watch` why"
        raise MultifacetError(f"{'; '.join(missing)}: {advice}")
    for note in missing:
        console.print(escape(note), highlight=False)
    return pages


def _base_of_preset(name: Any) -> Any:
    return training_preset(name).get("base") if name in training_preset_names() else None


def _fetched(client: ApiClient, job_id: str, stage: str, folder: Path) -> tuple[Path, Path] | None:
    """The preview's data and its page, downloaded; None where the stage left none."""
    found = {
        item["name"]: item
        for item in client.pages(job_path(job_id, "artifacts"), stage=stage, limit=200)
        if item["name"] in _FILES
    }
    if len(found) < len(_FILES):
        return None
    for name, item in found.items():
        client.download(f"/v1/artifacts/{item['id']}/content", folder / stage / name, item["sha256"])
    data, page = (folder / stage / name for name in _FILES)
    return data, page
