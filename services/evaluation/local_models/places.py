"""Where a local model lies: a folder of the operator's, or the Hub."""

from pathlib import Path

from shared.domain.errors import InputRefused
from shared.domain.evaluations import LocalModel


def place_of(model: LocalModel, models_folder: Path | None, pointer: str) -> tuple[str, str | None]:
    """What transformers loads, and the revision. Raises InputRefused at `pointer` for a folder that is not there, or leads
    elsewhere."""
    if model.hub is not None:
        return model.hub, model.revision
    if models_folder is None:
        raise InputRefused(
            f"the folder {model.folder!r} is named, but this worker has no models folder; set MULTIFACET_MODELS_FOLDER where it "
            "runs, or name a model of the Hub",
            f"{pointer}/folder",
        )
    found = (models_folder / (model.folder or "")).resolve()
    if not found.is_relative_to(models_folder.resolve()) or not (found / "config.json").is_file():
        raise InputRefused(
            f"{model.folder!r} is no folder with a config.json below MULTIFACET_MODELS_FOLDER; put the model there, or name one "
            "of the Hub",
            f"{pointer}/folder",
        )
    return str(found), None
