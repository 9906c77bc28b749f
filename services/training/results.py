"""The files that a training leaves, as objects of its stage."""

from pathlib import Path

from services.training.registration.saving import ADAPTER_FOLDER, MODEL_FOLDER
from shared.domain.models import ADAPTER_KIND, METRICS_FILE, METRICS_KIND, MODEL_KIND
from shared.stages.protocol import OutputObject

_KINDS = {f"{MODEL_FOLDER}/": MODEL_KIND, f"{ADAPTER_FOLDER}/": ADAPTER_KIND}
_MEDIA_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".html": "text/html",
    ".md": "text/markdown",
    ".jinja": "text/plain",
}


def training_outputs(folder: Path) -> tuple[OutputObject, ...]:
    """Every file below the step's output folder, in the order of names."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(_output(path.relative_to(folder).as_posix(), path) for path in files)


def _output(name: str, path: Path) -> OutputObject:
    kind = next((kind for prefix, kind in _KINDS.items() if name.startswith(prefix)), "file")
    if name == METRICS_FILE:
        kind = METRICS_KIND
    elif name == "preview.html":
        kind = "report"
    return OutputObject(
        name=name, path=path, media_type=_MEDIA_TYPES.get(path.suffix, "application/octet-stream"), kind=kind
    )
