"""Download what a job made."""

from pathlib import Path

from services.cli.client import ApiClient, job_path
from shared.domain.evaluations import EVALUATION_PREFIXES
from shared.domain.models import WEIGHT_KINDS

_LEFT_OUT = WEIGHT_KINDS | {"manifest"}
_INTERMEDIATE_STAGES = frozenset({"curate", "augment", "compose", "respond", "select", "rubric"})
_SHARDS_OF_RESULTS = frozenset({"bench"})
"""Stages whose parts hold what stands in another of their files, too."""


def pull_job(client: ApiClient, job_id: str, folder: Path, *, everything: bool) -> list[Path]:
    """Write the job's artifacts below `folder`, sha256 checked; returns the paths. Without `everything`, only results:
    the collection, the exports, the report and the card, the candidates' answers, what was made of them, and of trainings what
    is no weight."""
    written = []
    for artifact in client.pages(job_path(job_id, "artifacts"), limit=200):
        stage, name = artifact["stage"], artifact["name"]
        is_shard = stage in _SHARDS_OF_RESULTS and name.startswith("part-")
        if not everything and (is_shard or _is_intermediate(stage) or artifact["kind"] in _LEFT_OUT):
            continue
        target = folder / name if artifact.get("job_level") or stage == "report" else folder / stage / name
        client.download(f"/v1/artifacts/{artifact['id']}/content", target, artifact["sha256"])
        written.append(target)
    return written


def _is_intermediate(stage: str) -> bool:
    """Whether a stage's objects are parts that a later stage makes results of."""
    return stage in _INTERMEDIATE_STAGES or stage.startswith(EVALUATION_PREFIXES)
