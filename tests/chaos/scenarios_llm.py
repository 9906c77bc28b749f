"""Providers in bad shape: what they answer in place of an answer costs no row and nothing twice."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2

from shared.metadata.repositories.jobs import JobRepository
from shared.queue.retry_policy import MAXIMUM_DEFERRAL_SECONDS
from tests.chaos.faulty_endpoint import EndpointFault, Plan
from tests.chaos.scenario import require, scenario
from tests.chaos.servers import ServerProcess
from tests.chaos.world import PROJECT, World
from tests.support.servers import free_port

ROWS = 24
FEW_ROWS = 8
OUTAGE_CALLS = 30
"""More than open the circuit."""


class Endpoint(ServerProcess):
    """The faulty endpoint before a world's simulator."""

    def __init__(self, world: World) -> None:
        port = free_port()
        self.seed = world.seed % 2**31
        self.url = f"http://127.0.0.1:{port}/endpoint"
        arguments = ["tests.chaos.faulty_endpoint", str(port), world.simulator.url]
        super().__init__("endpoint", arguments, port, world.folder / "endpoint.log", {})

    async def plan(self, *faults: EndpointFault, **settings: object) -> None:
        plan = Plan.model_validate({"faults": faults, "seed": self.seed, **settings})
        async with httpx2.AsyncClient() as client:
            (await client.put(f"{self.url}/plan", content=plan.model_dump_json())).raise_for_status()

    async def struck(self) -> dict[str, int]:
        async with httpx2.AsyncClient() as client:
            answer = (await client.get(f"{self.url}/statistics")).json()
        require(answer["redirected"] == 0, "a redirect was followed, with the key")
        struck: dict[str, int] = answer["struck"]
        return struck


@asynccontextmanager
async def endpoint_before(world: World) -> AsyncIterator[Endpoint]:
    """Put the endpoint between the product and the simulator."""
    endpoint = Endpoint(world)
    endpoint.start()
    target = world.llm_link.target
    world.llm_link.target = ("127.0.0.1", endpoint.port)
    try:
        yield endpoint
    finally:
        world.llm_link.target = target
        endpoint.kill()


async def share_of_calls(world: World, *faults: EndpointFault, rows: int = ROWS, **settings: object) -> str:
    """A job whose calls meet `faults`, each body in its first tries alone: nothing may come of it but time."""
    async with endpoint_before(world) as endpoint:
        await endpoint.plan(*faults, **{"share": 0.3, "tries": 2, **settings})
        world.start_controller()
        world.start_worker()
        job = await world.submit(await world.real_spec(rows))
        await world.wait(job.id, 240)
        struck = await endpoint.struck()
    require(set(struck) == {fault.value for fault in faults}, f"of {faults} only {struck} struck")
    return ", ".join(f"{count} x {name}" for name, count in sorted(struck.items()))


@scenario("LLM: 429 with Retry-After", family="llm", handlers="real")
async def llm_429_with_retry_after(world: World) -> str:
    return await share_of_calls(world, EndpointFault.RATE_LIMITED, retry_after="1")


@scenario("LLM: 429 without Retry-After", family="llm", handlers="real")
async def llm_429_without_retry_after(world: World) -> str:
    return await share_of_calls(world, EndpointFault.RATE_LIMITED)


@scenario("LLM: 500 that repeats prompt and key", family="llm", handlers="real")
async def llm_500(world: World) -> str:
    return await share_of_calls(world, EndpointFault.SERVER_ERROR)


@scenario("LLM: HTML 502 of a proxy", family="llm", handlers="real")
async def llm_html_502(world: World) -> str:
    return await share_of_calls(world, EndpointFault.HTML_502)


@scenario("LLM: no byte ever", family="llm", handlers="real")
async def llm_hang(world: World) -> str:
    return await share_of_calls(world, EndpointFault.HANG, share=0.1, tries=1)


@scenario("LLM: byte by byte for minutes", family="llm", handlers="real")
async def llm_drip(world: World) -> str:
    return await share_of_calls(world, EndpointFault.DRIP, share=0.1, tries=1)


@scenario("LLM: connection reset, before and in the answer", family="llm", handlers="real")
async def llm_reset(world: World) -> str:
    return await share_of_calls(world, EndpointFault.RESET, EndpointFault.RESET_IN_BODY)


@scenario("LLM: malformed JSON", family="llm", handlers="real")
async def llm_malformed_json(world: World) -> str:
    return await share_of_calls(world, EndpointFault.MALFORMED_JSON, EndpointFault.EMPTY_200)


@scenario("LLM: 200 with an error body", family="llm", handlers="real")
async def llm_error_in_200(world: World) -> str:
    return await share_of_calls(world, EndpointFault.ERROR_IN_200)


@scenario("LLM: an answer without end", family="llm", handlers="real")
async def llm_endless(world: World) -> str:
    return await share_of_calls(world, EndpointFault.ENDLESS, rows=FEW_ROWS, share=0.05, tries=1)


@scenario("LLM: all of these at once", family="llm", handlers="real")
async def llm_storm(world: World) -> str:
    return await share_of_calls(
        world,
        EndpointFault.RATE_LIMITED,
        EndpointFault.SERVER_ERROR,
        EndpointFault.HTML_502,
        EndpointFault.RESET,
        EndpointFault.RESET_IN_BODY,
        EndpointFault.MALFORMED_JSON,
        EndpointFault.ERROR_IN_200,
        rows=FEW_ROWS,
        share=0.5,
    )


@scenario("LLM: 502 for every call, then back", family="llm", handlers="real")
async def llm_outage(world: World) -> str:
    """The circuit opens: steps wait and reject nothing."""
    async with endpoint_before(world) as endpoint:
        world.start_controller()
        world.start_worker()
        job = await world.submit(await world.real_spec(ROWS))
        await world.until_calls(world.random.randint(5, 80), 120)
        await endpoint.plan(EndpointFault.HTML_502)
        await until_struck(world, endpoint, OUTAGE_CALLS)
        await world.until(
            "SELECT count(*) > 0 FROM attempt JOIN step ON step.id = step_id WHERE job_id = %s AND attempt.state = 'preempted'",
            job.id,
        )
        await endpoint.plan()
        world.mark()
        await world.wait(job.id, 240)
        return f"{(await endpoint.struck())['html_502']} x 502"


@scenario("LLM: Retry-After of a thousand years", family="llm", handlers="real")
async def llm_asks_to_wait_for_ever(world: World) -> str:
    """The step waits, but not that long: the clock is set to the end of the longest wait that we grant."""
    async with endpoint_before(world) as endpoint:
        await endpoint.plan(EndpointFault.RATE_LIMITED, retry_after="31536000000")
        world.start_controller()
        world.start_worker()
        job = await world.submit(await world.real_spec(FEW_ROWS))
        waits = "job_id = %s AND state = 'ready' AND not_before > now() + interval '1 minute'"
        await world.until(f"SELECT count(*) > 0 FROM step WHERE {waits}", job.id, seconds=120)
        longest = world.value(
            f"SELECT max(extract(epoch FROM not_before - now()))::float FROM step WHERE {waits}", job.id
        )
        require(longest <= MAXIMUM_DEFERRAL_SECONDS, f"a step waits {longest} s")
        await endpoint.plan()
        world.mark()
        world.execute(f"UPDATE step SET not_before = now() WHERE {waits}", job.id)
        await world.wait(job.id, 240)
    return f"{longest:.0f} s waited at most"


@scenario("LLM: 401 in the middle of a job, then a retry", family="llm", handlers="real")
async def llm_key_revoked(world: World) -> str:
    """The job fails at once with what to set; what was paid for is kept and a retry goes on from there."""
    async with endpoint_before(world) as endpoint:
        world.start_controller()
        world.start_worker()
        job = await world.submit(await world.real_spec(FEW_ROWS))
        calls = world.random.randint(1, 30)
        await world.until_calls(calls, 120)
        await endpoint.plan(EndpointFault.UNAUTHORIZED)
        failed = await world.wait(job.id, 120)
        if failed.state == "succeeded":
            return f"after {calls} calls nothing was left to ask"
        require(failed.state == "failed", f"the job is {failed.state}")
        error = failed.error or {}
        require(error.get("code") == "authentication_failed", f"the job failed as {error}")
        require("OPENAI_API_KEY" in str(error.get("message")), f"nobody is told what to set: {error}")
        await endpoint.plan()
        world.mark()
        async with world.sessions() as session, session.begin():
            await JobRepository(session).retry(PROJECT, job.id)
        await world.wait(job.id, 240)
    return f"after {calls} calls"


@scenario("LLM: 401 for good, with the key in its body", family="llm", handlers="real")
async def llm_key_wrong(world: World) -> None:
    async with endpoint_before(world) as endpoint:
        await endpoint.plan(EndpointFault.UNAUTHORIZED)
        world.start_controller()
        world.start_worker()
        job = await world.submit(await world.real_spec(FEW_ROWS), expect="failed")
        failed = await world.wait(job.id, 120)
    require((failed.error or {}).get("code") == "authentication_failed", f"the job failed as {failed.error}")


@scenario("LLM: 400 that repeats prompt and key, and a redirect", family="llm", handlers="real")
async def llm_refuses(world: World) -> str:
    """Those rows are rejected, counted and told with a reason; the others are as without faults."""
    async with endpoint_before(world) as endpoint:
        await endpoint.plan(EndpointFault.REFUSED, EndpointFault.REDIRECT, share=0.1)
        world.start_controller()
        world.start_worker()
        job = await world.submit(await world.real_spec(ROWS, max_reject_rate=1.0), compare=False)
        await world.wait(job.id, 240)
        struck = await endpoint.struck()
    rejected = world.value(
        "SELECT sum((ledger->'reasons'->>'request_rejected')::int)::int FROM stage WHERE job_id = %s", job.id
    )
    require(rejected, "no facet was rejected for it")
    return f"{sum(struck.values())} calls refused, {rejected} facets rejected"


async def until_struck(world: World, endpoint: Endpoint, calls: int) -> None:
    deadline = time.monotonic() + 60 * world.pace
    while sum((await endpoint.struck()).values()) < calls:
        if time.monotonic() > deadline:
            raise TimeoutError(f"fewer than {calls} calls met the fault\n{world.logs()}")
        await asyncio.sleep(0.1)
