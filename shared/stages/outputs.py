"""Bringing what a step made into the store: under the attempt's own keys, several objects at a time."""

import asyncio
from collections.abc import Sequence
from typing import Any

from shared.artifacts import layout
from shared.artifacts.protocol import ArtifactStore
from shared.metadata.repositories.steps import Claim, NewArtifact
from shared.stages.protocol import OutputObject

_UPLOADS_AT_ONCE = 8


async def upload_outputs(
    store: ArtifactStore, claim: Claim, outputs: Sequence[OutputObject], lineage: dict[str, Any]
) -> list[NewArtifact]:
    """Upload the outputs of one attempt; returns what the commit records, in the given order.

    Raises ValueError for two outputs of one name, and what the store raises.
    """
    names = [(output.job_level, output.name) for output in outputs]
    if len(set(names)) != len(names):
        raise ValueError(f"the stage {claim.stage} made two outputs of one name among {sorted(names)}")
    gate = asyncio.Semaphore(_UPLOADS_AT_ONCE)

    async def upload(output: OutputObject) -> NewArtifact:
        async with gate:
            stored = await store.put_file(_key(claim, output), output.path, output.media_type)
        return NewArtifact(
            stage=claim.stage,
            name=output.name,
            key=stored.key,
            kind=output.kind,
            media_type=output.media_type,
            sha256=stored.sha256,
            size=stored.size,
            rows=output.rows,
            schema_version=output.schema_version,
            details=dict(output.metadata),
            lineage=lineage,
        )

    return list(await asyncio.gather(*(upload(output) for output in outputs)))


def _key(claim: Claim, output: OutputObject) -> str:
    if output.job_level:
        return layout.job_file_key(claim.project_id, claim.job_id, output.name, claim.attempt_id)
    folder = layout.stage_folder(claim.project_id, claim.job_id, claim.ordinal, claim.stage)
    return layout.attempt_key(folder, output.name, claim.attempt_id)
