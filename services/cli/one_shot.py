"""A job from a single command: on the system that runs, or on one that is started for it and stopped again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from services.cli.client import ApiClient
from services.cli.embedded.state import StateFolder
from services.cli.embedded.supervisor import running_system
from services.cli.pull import pull_job
from services.cli.watch import print_outcome, watch_job
from shared.domain.errors import MultifacetError
from shared.domain.jobs import ModelChoice
from shared.llm.providers import load_providers
from shared.settings import get_settings
from shared.settings.secrets import environment_secret

DEFAULT_MODELS = {"simulator": "simulator-large", "openai": "gpt-4.1-mini"}


def model_choice(text: str, what: str) -> dict[str, str]:
    """`provider` or `provider/model` as a job spec has it. Raises MultifacetError where no model is known."""
    provider, _, model = text.partition("/")
    model = model or DEFAULT_MODELS.get(provider, "")
    if not model:
        raise MultifacetError(f"{what} {text!r} names no model: write provider/model")
    return {"provider": provider, "model": model}


def check_instructions(path: Path | None) -> None:
    """Raises MultifacetError where a path was given and is no file."""
    if path is not None and not path.is_file():
        raise MultifacetError(f"there is no file {path}: give the path of a JSONL, CSV or Parquet file")


def source_of(client: ApiClient, instructions: Path | None, bundled: str) -> dict[str, Any]:
    """The instructions of a person, uploaded, or else a set that the project carries."""
    return {"bundled": bundled} if instructions is None else {"file": client.upload(instructions)["id"]}


@contextmanager
def a_system(console: Console, *choices: dict[str, str]) -> Iterator[ApiClient]:
    """The system that runs on this machine, else one that is started and stopped here.

    `choices` are the models that the job will ask. Raises MultifacetError, before anything is started here, where one of them is
    not configured or its key is not set; the workers of a system that already runs know that best themselves.
    """
    state = StateFolder()
    record = state.record()
    if record is not None:
        console.print(f"using the system that runs at {record.api_url}")
        yield ApiClient(record.api_url)
        return
    _check_configured(choices)
    with running_system(state, tell=console.print) as system:
        yield ApiClient(system.api_url)


def _check_configured(choices: Sequence[dict[str, str]]) -> None:
    providers = load_providers(get_settings().providers_file)
    models = [providers.require(ModelChoice.model_validate(choice), "") for choice in choices]
    for model in models:
        variable = model.provider.api_key_env
        if variable is not None and not environment_secret(variable):
            raise MultifacetError(f"provider {model.provider_name!r} needs a key: set {variable} and run this again")


def agreed(found: dict[str, Any], who: str, console: Console, *, confirmed: bool) -> bool:
    """Tell calls and cost of an estimate, and ask a person whether to go on."""
    cost = found["cost_micro_usd"]
    price = f"about ${cost / 1e6:.2f}" if cost is not None else "an unknown amount (no price is configured)"
    console.print(f"{who} will be asked {found['calls']:,} times; that costs {price}.")
    return confirmed or typer.confirm("Go on?")


def run_to_the_end(
    client: ApiClient, spec: dict[str, Any], out: Path, console: Console
) -> tuple[dict[str, Any], list[Path]]:
    """Submit a job, follow it, and download its results into `out`: the job's last view and the files, none where it failed."""
    job = client.post("/v1/jobs", spec)
    console.print(f"job {job['id']} at {client.url}/jobs/{job['id']}")
    job = watch_job(client, job["id"], console)
    print_outcome(client, job, console)
    if job["state"] != "succeeded":
        return job, []
    written = pull_job(client, job["id"], out, everything=False)
    console.print(f"\n{len(written)} files in {out.resolve()}")
    return job, written
