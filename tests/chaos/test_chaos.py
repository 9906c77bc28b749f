"""A short, seeded part of the fault scenarios; `make chaos` tries all of them at many points."""

import pytest

from tests.chaos.scenario import Scenario, load_all
from tests.chaos.servers import Grounds
from tests.chaos.table import attempt

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SEED = 20261129
LONGEST = "redis_killed"
QUICK = [
    pytest.param(one, id=one.name, marks=[pytest.mark.long] if one.name == LONGEST else [])
    for one in load_all().values()
    if one.quick
]


@pytest.mark.parametrize("scenario", QUICK)
async def test_nothing_is_lost(scenario: Scenario, grounds: Grounds) -> None:
    outcome = await attempt(scenario, SEED, grounds)
    assert outcome.survived, outcome.detail
