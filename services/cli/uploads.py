"""Files of this machine that a spec names as `upload:<file name>`: uploaded, and replaced by the ids that they get."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from services.cli.client import ApiClient
from shared.domain.errors import MultifacetError

_PREFIX = "upload:"


class _Place(NamedTuple):
    """Where a spec names an upload: `holder[key]` is to become an id."""

    holder: Any
    key: str | int
    pointer: str
    kind: Literal["file", "taxonomy"]
    name: str


def with_uploads(client: ApiClient, body: dict[str, Any], uploads: Sequence[Path]) -> dict[str, Any]:
    """The spec with ids in place of `upload:` names. Nothing is uploaded before every name and every file has its partner;
    raises MultifacetError where one has none."""
    files = _by_name(uploads)
    places = list(_places(body))
    _require_partners(files, places)
    ids: dict[tuple[str, str], str] = {}
    for place in places:
        known = ids.get((place.kind, place.name))
        if known is None:
            upload = client.upload if place.kind == "file" else client.upload_taxonomy
            known = ids[place.kind, place.name] = upload(files[place.name])["id"]
        place.holder[place.key] = known
    return body


def _by_name(uploads: Sequence[Path]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in uploads:
        if not path.is_file():
            raise MultifacetError(
                f"there is no file {path}: give the path of a JSONL, CSV or Parquet file, or of a taxonomy"
            )
        if path.name in files:
            raise MultifacetError(
                f"--upload {files[path.name]} and --upload {path} have the same file name, which is all that the spec can "
                "name: rename one of them, or leave it out"
            )
        files[path.name] = path
    return files


def _places(body: dict[str, Any]) -> Iterator[_Place]:
    """Wherever the spec may name an upload and does. What has another form than a spec is left for the api to judge."""
    sources = body.get("sources")
    for number, source in enumerate(sources if isinstance(sources, list) else ()):
        if isinstance(source, dict):
            yield from _named(source, "file", f"/sources/{number}/file", "file")
    trainings = body.get("train")
    for number, training in enumerate(trainings if isinstance(trainings, list) else ()):
        data = training.get("data") if isinstance(training, dict) else None
        if isinstance(data, dict):
            yield from _named(data, "file", f"/train/{number}/data/file", "file")
    questions = body.get("questions")
    if isinstance(questions, dict) and "file" in questions:
        yield from _named(questions, "file", "/questions/file", "file")
    for key in ("answer", "candidates"):  # of a job, and of the short form of an evaluation
        candidates = body.get(key)
        for number, answer in enumerate(candidates if isinstance(candidates, list) else ()):
            candidate = answer.get("candidate") if isinstance(answer, dict) else None
            if isinstance(candidate, dict) and "file" in candidate:
                yield from _named(candidate, "file", f"/{key}/{number}/candidate/file", "file")
    curate = body.get("curate")
    benchmarks = curate.get("decontaminate_against") if isinstance(curate, dict) else None
    for number in range(len(benchmarks) if isinstance(benchmarks, list) else 0):
        yield from _named(benchmarks, number, f"/curate/decontaminate_against/{number}", "file")
    yield from _named(body, "taxonomy", "/taxonomy", "taxonomy")


def _named(holder: Any, key: str | int, pointer: str, kind: Literal["file", "taxonomy"]) -> Iterator[_Place]:
    value = holder.get(key) if isinstance(holder, dict) else holder[key]
    if isinstance(value, str) and value.startswith(_PREFIX):
        yield _Place(holder, key, pointer, kind, value.removeprefix(_PREFIX))


def _require_partners(files: dict[str, Path], places: Sequence[_Place]) -> None:
    for place in places:
        if place.name not in files:
            given = ", ".join(sorted(files)) or "none"
            raise MultifacetError(
                f"the spec names {_PREFIX}{place.name} at {place.pointer}, but no --upload gave a file of that name "
                f"(given: {given}); add --upload <path of {place.name or 'the file'}>"
            )
    unused = sorted(files.keys() - {place.name for place in places})
    if unused:
        name = unused[0]
        raise MultifacetError(
            f"--upload {files[name]} is not used: the spec names {_PREFIX}{name} nowhere. Write it as the `file` of a source, "
            "in curate.decontaminate_against, as `data.file` of a training, as `questions.file`, as `candidate.file` of who "
            "answers or as `taxonomy`, or leave the option out"
        )
