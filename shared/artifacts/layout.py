"""Where every object lies: what a person sees in the MinIO console. Keys are made here and nowhere else.

    artifacts/<project>/<job>/00-curate/part-00000-<attempt>.parquet
    artifacts/<project>/<job>/40-assemble/exports/dpo/train-<attempt>.parquet
    artifacts/<project>/<job>/<stage>/manifest.json
    artifacts/<project>/<job>/{README.md,report.html,sample.jsonl,index.json}
    uploads/<project>/<file id>/<name>
    checkpoints/<project>/<job>/<stage>/step-00000120-<attempt>/<file>

The attempt id is part of every key that an attempt writes, so two attempts never write the same object.
"""

import re
from pathlib import PurePosixPath

MUTABLE_NAMES = frozenset({"README.md", "index.json"})
"""The only objects that may be written again."""

_CHECKPOINT_FOLDER = re.compile(r"step-(\d{8,})-(\d+)")


def job_folder(project_id: str, job_id: str) -> str:
    return f"artifacts/{project_id}/{job_id}"


def stage_folder(project_id: str, job_id: str, ordinal: int, stage: str) -> str:
    """`artifacts/<project>/<job>/10-augment` for the second stage."""
    return f"{job_folder(project_id, job_id)}/{ordinal * 10:02d}-{stage}"


def attempt_key(folder: str, name: str, attempt_id: int) -> str:
    """Key of the object `name` (which may hold `/`) written by one attempt: `train.parquet` → `train-17.parquet`."""
    path = PurePosixPath(_checked(name))
    return str(PurePosixPath(folder) / path.with_name(f"{path.stem}-{attempt_id}{path.suffix}"))


def job_file_key(project_id: str, job_id: str, name: str, attempt_id: int) -> str:
    """Key of a job-level file; README.md and index.json keep their plain names and are replaced."""
    folder = job_folder(project_id, job_id)
    return f"{folder}/{name}" if name in MUTABLE_NAMES else attempt_key(folder, name, attempt_id)


def manifest_key(project_id: str, job_id: str, ordinal: int, stage: str) -> str:
    return f"{stage_folder(project_id, job_id, ordinal, stage)}/manifest.json"


def index_key(project_id: str, job_id: str) -> str:
    return f"{job_folder(project_id, job_id)}/index.json"


def upload_key(project_id: str, file_id: str, name: str) -> str:
    """The user's file name is kept for people, reduced to harmless characters."""
    harmless = re.sub(r"[^A-Za-z0-9._-]+", "_", PurePosixPath(name.replace("\\", "/")).name).strip("._") or "file"
    return f"uploads/{project_id}/{file_id}/{harmless[-120:]}"


def checkpoint_prefix(project_id: str, job_id: str, stage: str) -> str:
    """Where the checkpoints of one training lie: all its attempts share it, so that one goes on where another ended."""
    return f"checkpoints/{project_id}/{job_id}/{stage}"


def checkpoint_folder(prefix: str, step: int, attempt_id: int) -> str:
    """`<prefix>/step-00000120-7`: what attempt 7 wrote after 120 steps."""
    return f"{prefix}/step-{step:08d}-{attempt_id}"


def step_and_attempt(prefix: str, key: str) -> tuple[int, int] | None:
    """Step and attempt of the checkpoint that the object `key` belongs to; None where it belongs to none."""
    if not key.startswith(f"{prefix}/"):
        return None
    found = _CHECKPOINT_FOLDER.fullmatch(key.removeprefix(f"{prefix}/").partition("/")[0])
    return (int(found[1]), int(found[2])) if found else None


def reference_part_key(project_id: str, key: str, part: str) -> str:
    """A part of the log-probabilities of the reference model of a training by DPO; `key` says of which model and rows."""
    return f"cache/{project_id}/reference-log-probabilities/{key}/{part}.safetensors"


def part_name(shard: int) -> str:
    return f"part-{shard:05d}.parquet"


def _checked(name: str) -> str:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or any(part in {"..", "."} for part in parts):
        raise ValueError(f"{name!r} is no relative object name")
    return name
