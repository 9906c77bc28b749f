"""`python -m tests.chaos --seed 1 --tries 3 [--only PATTERN]`: every fault, tried; a table; exit status 1 on any violation."""

import argparse
import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Sequence

from tests.chaos.scenario import Scenario, load_all
from tests.chaos.servers import Grounds
from tests.chaos.table import Line, attempt, heading, markdown


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="decides where each fault strikes")
    parser.add_argument("--tries", type=int, default=3, help="tries per fault, each at another point")
    parser.add_argument("--only", default="", help="regular expression on names, faults and families of scenarios")
    parser.add_argument("--list", action="store_true", help="print the scenarios and end")
    options = parser.parse_args()
    wanted = re.compile(options.only)
    chosen = [
        one
        for name, one in sorted(load_all().items(), key=lambda item: (item[1].family, item[0]))
        if any(wanted.search(text) for text in (name, one.fault, one.family))
    ]
    if not chosen:
        parser.error(f"--only {options.only!r} chooses none; `--list` prints all")
    if options.list:
        for one in chosen:
            print(f"{one.family:12} {one.run.__name__:44} {one.fault}{' (quick)' if one.quick else ''}")  # type: ignore[attr-defined]
        return 0
    for name in [name for name in os.environ if name.endswith("_API_KEY")]:
        del os.environ[name]  # no fault may reach a real provider
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # worlds end what they started
    return asyncio.run(_run(chosen, options.seed, options.tries))


def _leave(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(f"signal {number}")


async def _run(chosen: Sequence[Scenario], seed: int, tries: int) -> int:
    with Grounds() as grounds:
        head = heading(seed, grounds)
        print(head, flush=True)
        lines = []
        for scenario in chosen:
            outcomes = []
            for number in range(tries):
                started = time.monotonic()
                outcome = await attempt(scenario, seed * 1000 + number, grounds)
                outcomes.append(outcome)
                word = "survived" if outcome.survived else "BROKEN"
                recovery = "" if outcome.recovery_seconds is None else f", recovery {outcome.recovery_seconds:.1f} s"
                seconds = time.monotonic() - started
                print(
                    f"{scenario.fault}, try {number + 1}: {word} in {seconds:.0f} s{recovery}; {outcome.detail}",
                    flush=True,
                )
            lines.append(Line(scenario, tuple(outcomes)))
    print(f"\n{head}\n\n{markdown(lines)}")
    return 0 if all(line.survived for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
