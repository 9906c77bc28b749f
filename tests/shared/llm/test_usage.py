"""Counting and money on a real PostgreSQL."""

import asyncio

import pytest

from shared.domain.errors import StepFailed
from shared.llm.usage import JobAccount, UsageKey, UsageLedger
from tests.shared.llm.conftest import Bench


def _key(bench: Bench) -> UsageKey:
    return UsageKey(bench.job, "respond", "p", "m", "respond", bench.project)


async def test_two_workers_add_up_and_see_each_others_spending(bench: Bench) -> None:
    await bench.add_job()
    ledgers = [UsageLedger(bench.database_url), UsageLedger(bench.database_url)]
    accounts = [ledger.account(bench.job, 1000) for ledger in ledgers]
    for ledger, account in zip(ledgers, accounts, strict=True):
        await ledger.load(account)
        await account.reserve(1)
        counters = ledger.counters(_key(bench))
        counters.calls += 2
        counters.cost_micro_usd += 300
        counters.unpriced_calls += 1
        account.settle(1, 300)
        await ledger.flush()
        await ledger.flush()
    usage = await bench.usage()
    assert (usage["calls"], usage["cost_micro_usd"]) == (4, 600)
    job = (await bench.fetch("SELECT cost_micro_usd, unpriced_calls FROM job WHERE id = %s", bench.job))[0]
    assert job == {"cost_micro_usd": 600, "unpriced_calls": 2}
    assert [account.spent for account in accounts] == [300, 600]
    late = UsageLedger(bench.database_url)
    account = late.account(bench.job, 600)
    await late.load(account)
    with pytest.raises(StepFailed, match=r"\$0\.000600") as failed:
        await account.reserve(1)
    assert failed.value.code == "budget_exhausted"
    for ledger in [*ledgers, late]:
        await ledger.close()


async def test_calls_wait_for_those_in_flight_when_the_budget_is_nearly_spent() -> None:
    account = JobAccount("job_x")
    account.budget_micro_usd = 100
    await account.reserve(60)
    waiting = asyncio.create_task(account.reserve(60))
    await asyncio.sleep(0)
    assert not waiting.done()
    account.settle(60, 20)
    await waiting
    account.settle(60, 90)
    with pytest.raises(StepFailed):
        await account.reserve(1)


async def test_a_job_without_a_budget_never_waits() -> None:
    account = JobAccount("job_x")
    for _ in range(100):
        await account.reserve(10**9)
    assert account.in_flight == 100 * 10**9


async def test_a_failed_flush_keeps_what_was_counted(bench: Bench) -> None:
    ledger = UsageLedger(bench.database_url)
    ledger.counters(_key(bench)).calls += 3
    await bench.fetch("ALTER TABLE usage RENAME TO hidden")
    try:
        with pytest.raises(Exception, match="usage"):
            await ledger.flush()
    finally:
        await bench.fetch("ALTER TABLE hidden RENAME TO usage")
    ledger.counters(_key(bench)).calls += 1
    await ledger.close()
    assert (await bench.usage())["calls"] == 4
