"""What a fault scenario is, and the list of all of them.

    @scenario("worker killed", family="processes", quick=True)
    async def worker_killed(world: World) -> str | None:
        ...

The function drives one fault in a world of its own, made with the keyword arguments given to the decorator, and waits for its
jobs. What must hold afterwards is checked by `tests.chaos.invariants` for every scenario alike; what only this scenario promises
it checks itself by `require`. It returns a remark for the table, or nothing.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from tests.chaos.world import World

Run = Callable[[World], Awaitable[str | None]]


class Broken(Exception):
    """A promise did not hold; the text says which and what was seen."""


def require(holds: object, text: str) -> None:
    """Raise Broken with `text` unless `holds`."""
    if not holds:
        raise Broken(text)


class Scenario(msgspec.Struct, frozen=True):
    """A fault that can be tried with any seed."""

    name: str
    fault: str
    """What is done, in a few words: the row's name in the table."""
    family: str
    run: Run
    quick: bool
    """Part of the short subset of `make test`."""
    world: dict[str, Any]
    """Keyword arguments of its World."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of one try."""

    survived: bool
    lost_rows: int = 0
    calls_paid_twice: int = 0
    """Beyond those in flight, or answered within the 100 ms before, when a process was killed or frozen."""
    recovery_seconds: float | None = None
    """From the end of the fault to the next success of a step; None where nothing was left to do."""
    detail: str = ""
    """Violations, or the scenario's remark."""


SCENARIOS: dict[str, Scenario] = {}


def scenario(fault: str, *, family: str, quick: bool = False, **world: Any) -> Callable[[Run], Run]:
    """Register the function as a scenario under its own name."""

    def register(run: Run) -> Run:
        name = run.__name__  # type: ignore[attr-defined]
        if name in SCENARIOS:
            raise ValueError(f"two scenarios are called {name}")
        SCENARIOS[name] = Scenario(name, fault, family, run, quick, world)
        return run

    return register


def load_all() -> dict[str, Scenario]:
    """Every scenario of tests/chaos/scenarios_*.py, by name."""
    import importlib
    import pkgutil

    import tests.chaos as package

    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("scenarios_"):
            importlib.import_module(f"{package.__name__}.{module.name}")
    return SCENARIOS
