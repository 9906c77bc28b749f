"""The explorer's HTML: rows at once, the counts of a large data set in a part of their own."""

from pathlib import Path

import httpx2
import pytest

from services.api.pages import explorer
from services.api.state import ApiState
from tests.services.api.support import job_with_rows

OVERVIEW = "/data/overview?"
CHOICES = '<select name="subdimension"'


async def test_a_small_data_set_comes_with_its_filters_and_its_chart(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    job = await job_with_rows(state, tmp_path)
    page = (await client.get(f"/jobs/{job.id}/data", params={"dimension": "style"})).text
    assert CHOICES in page
    assert "data-figure" in page
    assert OVERVIEW not in page


async def test_the_rows_of_a_large_data_set_do_not_wait_for_its_counts(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explorer, "_QUICKLY_COUNTED_ROWS", 100)
    job = await job_with_rows(state, tmp_path)
    address = f"/jobs/{job.id}/data"
    first = (await client.get(address, params={"contains": "number 7"})).text
    assert "Question number 7?" in first
    assert CHOICES not in first
    assert f"{address}/overview?" in first
    part = (await client.get(f"{address}/overview", params={"contains": "number 7"})).text
    assert CHOICES in part
    assert "data-figure" in part
    assert 'value="number 7"' in part
    assert "<html" not in part
    assert OVERVIEW not in part
    again = (await client.get(address)).text
    assert CHOICES in again
    assert OVERVIEW not in again


@pytest.mark.parametrize("query", [{"limit": "0"}, {"offset": "-1"}, {"contains": "x" * 201}])
async def test_an_address_out_of_range_is_refused(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path, query: dict[str, str]
) -> None:
    job = await job_with_rows(state, tmp_path)
    assert (await client.get(f"/jobs/{job.id}/data", params=query)).status_code == 422
