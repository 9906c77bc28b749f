"""The sets of instructions that the project carries."""

from pathlib import Path

from shared.domain.errors import InputRefused

_FOLDER = Path(__file__).parent / "bundled"


def bundled_names() -> list[str]:
    """Names that `bundled` of a source may take."""
    return sorted(path.stem for path in _FOLDER.glob("*.jsonl"))


def bundled_file(name: str, pointer: str) -> Path:
    """Path of the set `name`; raises InputRefused for one that the project does not carry."""
    if name not in bundled_names():
        raise InputRefused(
            f"the project carries no set {name!r}; set one of: {', '.join(bundled_names())}", f"{pointer}/bundled"
        )
    return _FOLDER / f"{name}.jsonl"
