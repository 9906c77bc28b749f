"""The api fuzzed from its own schema: no server error, and every answer is one that the schema promises."""

import asyncio
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from services.api.app import create_app
from services.api.state import ApiState
from shared.domain.benches import item_id
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.settings import Settings
from tests.services.api.benches import bench_of_job
from tests.services.api.support import (
    ADMIN_KEY,
    api_settings,
    end_job,
    job_with_rows,
    running_app,
    running_server,
    state_of,
)
from tests.support.benches import bench_facet, bench_row

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
EXAMPLES = 8
KNOWN: dict[str, str] = {}
"""Path parameters that exist, so that half of the requests get beyond `404`."""


async def _fill(settings: Settings) -> dict[str, str]:
    async with running_app(settings) as app:
        state: ApiState = state_of(app)
        folder = settings.work_folder
        assert folder is not None
        job = await job_with_rows(state, folder, rows=20)
        await end_job(state, job.id)
        async with state.transaction() as session:
            artifacts = await ArtifactRepository(session).list("default", job.id)
        row = bench_row(0, bench_facet(0))
        bench = await bench_of_job(state, folder, [row])
    return {
        "job_id": job.id,
        "artifact_id": artifacts[0].id,
        "taxonomy_id": "multifacet",
        "bench_id": bench,
        "item_id": item_id(row.row_id, 0),
    }


@pytest.fixture(scope="module")
def server(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = api_settings(postgres_url, tmp_path_factory.mktemp("fuzz"))
    KNOWN.update(asyncio.run(_fill(settings)))
    with running_server(settings) as url:
        yield url


# The estimate takes the body of a submission through the same checks: fuzzed once, by submission.
schema = schemathesis.openapi.from_dict(create_app(Settings()).openapi()).exclude(operation_id="estimate_job")


@pytest.mark.timeout(300)
@schema.parametrize()
@hypothesis_settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
def test_no_request_makes_the_server_fail_or_break_its_word(case: schemathesis.Case, server: str) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    answer = case.call_and_validate(base_url=server, headers=headers, checks=CHECKS)
    assert answer.status_code < 500
    if any(name in KNOWN for name in case.path_parameters):
        for name in case.path_parameters:
            if name in KNOWN:
                case.path_parameters[name] = KNOWN[name]
        case.call_and_validate(base_url=server, headers=headers, checks=CHECKS)
