"""`python -m services.simulator` as a real process: ready line, answers, end by signal, refused start."""

import asyncio
import signal
import sys
from pathlib import Path

import aiohttp

from tests.services.simulator.support import ask, body_of


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.simulator",
        "--port",
        "0",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_process_says_where_it_listens_and_ends_at_sigterm(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text('{"seed": 3, "default": {"shares": {"hang": 0.0}}}')
    process = await start("--faults", str(plan), "--seed", "9", "--models", "simulator-small")
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        assert line.startswith("simulator listening on http://127.0.0.1:")
        url = f"{line.split()[-1]}/v1"
        assert await ask(url, body_of(), "chat")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{url}/simulator/faults") as response:
                assert (await response.json())["seed"] == 3
            async with session.get(f"{url}/models") as response:
                assert [model["id"] for model in (await response.json())["data"]] == ["simulator-small"]
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_wrong_plan_ends_the_start_with_a_message(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text('{"latency": 3}')
    process = await start("--faults", str(plan))
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2
    assert "latency" in errors.decode()
    assert "Traceback" not in errors.decode()
