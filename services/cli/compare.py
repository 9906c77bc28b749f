"""`multifacet compare`: two evaluations held against each other, in the terminal or as JSON."""

from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from services.cli.client import ApiClient
from shared.domain.errors import MultifacetError
from shared.domain.evaluation_figures import EVALUATION_FILE, ITEMS_FILE
from shared.evaluations import EvaluationComparison, StoredEvaluation, compare_evaluations, read_evaluation

_DECIMALS = {"words": 1}
_TITLES = {"checks": "checks passed", "score": "score, all rubrics"}


def run_compare(first: str, second: str, console: Console, *, force: bool, as_json: bool) -> EvaluationComparison:
    """Print the differences of two evaluations, each an `evaluation.json`, a folder holding one, or the id of a job.

    Raises MultifacetError where one is no evaluation, and, without `force`, where they asked different benches.
    """
    one, two = _evaluation(first), _evaluation(second)
    found = compare_evaluations(one, two)
    if not found.same_bench and not force:
        mine, theirs, common = found.items
        shared = "" if common is None else f", {common:,} of them in common"
        raise MultifacetError(
            f"{first} and {second} asked different benches ({mine:,} and {theirs:,} items{shared}), so their figures say nothing "
            "about each other; evaluate both on one bench, or compare what they have in common by --force"
        )
    if found.items[2] == 0:
        raise MultifacetError(f"{first} and {second} have no item in common: there is nothing to compare")
    if as_json:
        console.file.write(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n")
    else:
        print_comparison(found, console)
    return found


def print_comparison(found: EvaluationComparison, console: Console) -> None:
    """A table per pair of candidates, and below it what else is to be known."""
    if not found.same_bench:
        console.print("[yellow]the benches differ[/yellow]: only what is paired below is of the same items")
    for pair in dict.fromkeys((one.first, one.second) for one in found.differences):
        table = Table(
            "figure",
            *(Column(title, justify="right") for title in ("first", "second", "difference", "95% interval", "items")),
            "",
            title=escape(f"{pair[0]} of {found.first} minus {pair[1]} of {found.second}"),
        )
        for one in found.differences:
            if (one.first, one.second) != pair:
                continue
            digits = _DECIMALS.get(one.figure, 3)
            interval = one.difference
            bounds = (
                f"{interval.low:+.{digits}f} to {interval.high:+.{digits}f}"
                if interval.low is not None and interval.high is not None
                else f"none ({interval.method.replace('_', ' ')})"
            )
            table.add_row(
                escape(_title(one.figure)),
                f"{one.first_value:.{digits}f}",
                f"{one.second_value:.{digits}f}",
                f"{one.first_value - one.second_value:+.{digits}f}",
                bounds,
                "not paired" if one.items is None else f"{one.items:,}",
                "differs" if one.is_sure else "",
            )
        console.print(table)
    if not found.differences:
        console.print("the two have no figure in common")
    for note in found.notes:
        console.print(f"[yellow]note[/yellow]: {escape(note)}", highlight=False)


def _title(figure: str) -> str:
    return _TITLES.get(figure, figure.removeprefix("score.").replace("_", " "))


def _evaluation(given: str) -> StoredEvaluation:
    path = Path(given)
    if path.exists():
        return read_evaluation(path)
    if "/" in given or given.endswith(".json"):
        raise MultifacetError(f"there is no {given}; give an evaluation.json, a folder holding one, or the id of a job")
    return _of_job(given)


def _of_job(job_id: str) -> StoredEvaluation:
    client = ApiClient()
    view = client.get(f"/v1/evaluations/{quote(job_id, safe='', errors='surrogateescape')}")
    files = {file["name"]: file for file in view["files"]}
    if EVALUATION_FILE not in files:
        raise MultifacetError(f"{job_id} has no figures yet: its stage `evaluate` has not succeeded")
    with TemporaryDirectory() as folder:
        for name in (EVALUATION_FILE, ITEMS_FILE):
            if name in files:
                file = files[name]
                client.download(f"/v1/artifacts/{file['id']}/content", Path(folder) / name, file["sha256"])
        return msgspec.structs.replace(read_evaluation(Path(folder)), name=job_id)
