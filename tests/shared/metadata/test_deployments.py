"""Deployments on real PostgreSQL: every way from one state to the next, by what users ask and launchers report."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.domain.deployments import DeploymentConflict, DeploymentNotFound, DeploymentTarget
from shared.domain.errors import InputRefused
from shared.metadata.repositories.deployments import DeploymentRepository
from shared.metadata.repositories.gpu_slots import GpuSlotRepository, attempt_holder, server_holder
from shared.metadata.repositories.model_servers import LauncherTerms, ModelServerRepository
from shared.metadata.repositories.served_models import HubModel, OperatorFolder, StoredFiles, served_model
from shared.metadata.repositories.serving import ServingRepository
from tests.support.control_plane import PROJECT
from tests.support.scheduling import submitted
from tests.support.served import (
    TERMS,
    Launcher,
    deploy,
    found,
    history,
    lose,
    place,
    registered,
    revision_states,
)

Sessions = async_sessionmaker[AsyncSession]
PROVIDER = DeploymentTarget(provider="simulator", model="simulator-small")


@pytest.fixture(autouse=True)
async def no_other_launcher(sessions: Sessions) -> AsyncIterator[None]:
    """Tests of this module share a database: places of one must not take another's deployments."""
    yield
    async with sessions() as session, session.begin():
        await session.execute(sa.text("DELETE FROM model_server"))
        await session.execute(sa.text("UPDATE deployment SET state = 'stopped'"))
        await session.execute(sa.text("DELETE FROM gpu_slot"))


async def answering(sessions: Sessions) -> dict[str, int]:
    async with sessions() as session:
        return {model.name: model.revision for model in await ServingRepository(session).serving(PROJECT)}


async def roll_back(sessions: Sessions, name: str) -> None:
    async with sessions() as session, session.begin():
        await DeploymentRepository(session).roll_back(PROJECT, name)


async def stop(sessions: Sessions, name: str) -> None:
    async with sessions() as session, session.begin():
        await DeploymentRepository(session).stop(PROJECT, name)


async def served(sessions: Sessions, name: str, launcher: Launcher) -> str:
    """A deployment whose first revision answers; its model."""
    model = await registered(sessions)
    await launcher.report()
    deployment = await deploy(sessions, name, model)
    assert await place(sessions, deployment)
    await launcher.serves(deployment, 1)
    assert (await found(sessions, name)).state == "ready"
    return model


async def test_a_deployment_waits_is_placed_starts_and_answers(sessions: Sessions) -> None:
    deployment = await deploy(sessions, "life", await registered(sessions))
    assert deployment.state == "waiting"
    assert not await place(sessions, deployment)
    assert "no server of kind cpu is there" in (await found(sessions, "life")).detail
    launcher = Launcher(sessions)
    assert await launcher.report() == []
    assert await place(sessions, deployment)
    assert (await found(sessions, "life")).state == "starting"
    (wanted,) = await launcher.report()
    assert (wanted.place, wanted.deployment.id, wanted.revision.revision) == (0, deployment.id, 1)
    launcher.places[0] = {
        "place": 0, "state": "fetching", "about": f"{deployment.id}:1", "detail": "12 of 90 MB",
    }  # fmt: skip
    await launcher.report()
    assert (await found(sessions, "life")).detail == "12 of 90 MB"
    assert await answering(sessions) == {}
    await launcher.serves(deployment, 1)
    now = await found(sessions, "life")
    assert (now.state, now.serving_revision, now.detail) == ("ready", 1, "")
    async with sessions() as session:
        model = await ServingRepository(session).find(PROJECT, "life")
    assert model is not None
    assert (model.server_address, model.maximum_total_tokens) == ("http://127.0.0.1:9000", 512)
    assert await history(sessions, deployment.id) == [("revision", 1), ("placed", 1), ("ready", 1)]


async def test_a_second_revision_takes_the_place_over_and_the_first_answers_until_then(sessions: Sessions) -> None:
    launcher = Launcher(sessions)
    await served(sessions, "second", launcher)
    deployment = await deploy(sessions, "second", await registered(sessions))
    assert (deployment.state, deployment.wanted_revision, deployment.serving_revision) == ("changing", 2, 1)
    (wanted,) = await launcher.report()
    assert wanted.revision.revision == 2
    assert await answering(sessions) == {"second": 1}
    await launcher.serves(deployment, 2)
    assert await answering(sessions) == {"second": 2}
    assert await revision_states(sessions, deployment.id) == ["replaced", "ready"]


async def test_a_revision_that_fails_leaves_the_one_before_in_its_place(sessions: Sessions) -> None:
    launcher = Launcher(sessions)
    await served(sessions, "kept", launcher)
    deployment = await deploy(sessions, "kept", await registered(sessions))
    before = launcher.places[0]
    still = {"serving": before["serving"], "address": before["address"]}
    (wanted,) = await launcher.fails(deployment, 2, **still)
    assert wanted.revision.revision == 1
    now = await found(sessions, "kept")
    assert (now.state, now.wanted_revision, now.serving_revision) == ("ready", 1, 1)
    assert now.detail == "revision 1 answers; revision 2 could not be served: it broke"
    assert await revision_states(sessions, deployment.id) == ["ready", "failed"]
    await launcher.serves(deployment, 1)
    assert (await found(sessions, "kept")).detail == now.detail, "a later report does not hide why"
    assert (await deploy(sessions, "kept", await registered(sessions))).wanted_revision == 3


async def test_a_server_that_had_to_restart_for_a_failed_revision_is_ready_when_it_answers_again(
    sessions: Sessions,
) -> None:
    launcher = Launcher(sessions)
    await served(sessions, "restarts", launcher)
    deployment = await deploy(sessions, "restarts", await registered(sessions))
    await launcher.fails(deployment, 2)  # nothing answers meanwhile
    assert (await found(sessions, "restarts")).state == "starting"
    assert await answering(sessions) == {}
    await launcher.serves(deployment, 1)
    now = await found(sessions, "restarts")
    assert now.state == "ready"
    assert "revision 2 could not be served" in now.detail
    assert await answering(sessions) == {"restarts": 1}


async def test_a_first_revision_that_fails_fails_the_deployment_and_frees_the_place(sessions: Sessions) -> None:
    launcher = Launcher(sessions)
    await launcher.report()
    deployment = await deploy(sessions, "never", await registered(sessions))
    await place(sessions, deployment)
    assert await launcher.fails(deployment, 1) == []
    now = await found(sessions, "never")
    assert (now.state, now.detail, now.serving_revision) == ("failed", "it broke", None)
    again = await deploy(sessions, "never", await registered(sessions))
    assert (again.state, again.wanted_revision) == ("waiting", 2)


async def test_a_crash_is_told_and_crashes_without_end_fail_the_deployment(sessions: Sessions) -> None:
    launcher = Launcher(sessions)
    await served(sessions, "crash", launcher)
    deployment = await found(sessions, "crash")
    launcher.places[0] = {
        "place": 0, "state": "starting", "about": f"{deployment.id}:1", "detail": "ended with -9; started again",
    }  # fmt: skip
    await launcher.report()
    now = await found(sessions, "crash")
    assert (now.state, now.detail) == ("starting", "ended with -9; started again")
    await launcher.serves(deployment, 1)
    assert (await found(sessions, "crash")).state == "ready"
    await launcher.fails(deployment, 1)
    now = await found(sessions, "crash")
    assert (now.state, now.serving_revision) == ("failed", None)
    assert await answering(sessions) == {}


async def test_rolling_back_makes_a_revision_of_what_was_ready_before(sessions: Sessions) -> None:
    launcher = Launcher(sessions)
    first = await served(sessions, "back", launcher)
    with pytest.raises(DeploymentConflict, match="nothing else before"):
        await roll_back(sessions, "back")
    deployment = await deploy(sessions, "back", await registered(sessions))
    await launcher.serves(deployment, 2)
    await roll_back(sessions, "back")
    (wanted,) = await launcher.report()
    assert (wanted.revision.revision, wanted.revision.target["registry"]) == (3, first)
    await launcher.serves(deployment, 3)
    assert await answering(sessions) == {"back": 3}
    assert ("rollback", 3) in await history(sessions, deployment.id)


async def test_rolling_back_a_revision_under_way_returns_to_what_answers(sessions: Sessions) -> None:
    launcher = Launcher(sessions)
    first = await served(sessions, "under-way", launcher)
    await deploy(sessions, "under-way", await registered(sessions))
    await roll_back(sessions, "under-way")
    (wanted,) = await launcher.report()
    assert (wanted.revision.revision, wanted.revision.target["registry"]) == (3, first)


async def test_a_failed_deployment_is_rolled_back_to_what_it_served(sessions: Sessions) -> None:
    launcher = Launcher(sessions)
    first = await served(sessions, "recovers", launcher)
    deployment = await deploy(sessions, "recovers", await registered(sessions))
    await launcher.serves(deployment, 2)
    await launcher.fails(deployment, 2)
    await roll_back(sessions, "recovers")
    launcher.places = [{"place": 0, "state": "empty"}]
    await launcher.report()
    await place(sessions, deployment)
    (wanted,) = await launcher.report()
    assert wanted.revision.target["registry"] == first


async def test_an_undeployed_name_is_free_again_and_its_place_too(sessions: Sessions) -> None:
    launcher = Launcher(sessions)
    await served(sessions, "gone", launcher)
    old = await found(sessions, "gone")
    await stop(sessions, "gone")
    assert await answering(sessions) == {}
    assert await launcher.report() == []
    with pytest.raises(DeploymentNotFound):
        await found(sessions, "gone")
    stopped = await found(sessions, old.id)
    assert stopped.stopped_at is not None
    await stop(sessions, old.id)
    assert (await history(sessions, old.id)).count(("stopped", 1)) == 1
    new = await deploy(sessions, "gone", await registered(sessions))
    assert new.id != old.id


async def test_a_providers_model_is_ready_at_once_and_takes_no_place(sessions: Sessions) -> None:
    launcher = Launcher(sessions)
    await served(sessions, "moved", launcher)
    deployment = await deploy(sessions, "moved", target=PROVIDER)
    assert (deployment.state, deployment.serving_revision) == ("ready", 2)
    assert await launcher.report() == []
    assert await answering(sessions) == {"moved": 2}
    model = await registered(sessions)
    back = await deploy(sessions, "moved", model)
    assert (back.state, back.serving_revision) == ("changing", 2)
    assert not await place(sessions, back), "the place still ends what it had"
    launcher.places = [{"place": 0, "state": "empty"}]
    await launcher.report()
    assert await place(sessions, back)
    await launcher.fails(back, 3)
    now = await found(sessions, "moved")
    assert (now.state, now.serving_revision) == ("ready", 2)
    assert await answering(sessions) == {"moved": 2}


async def test_another_kind_of_server_takes_over_only_when_it_is_ready(sessions: Sessions) -> None:
    cpu, tgi = Launcher(sessions), Launcher(sessions, kind="tgi")
    model = await served(sessions, "faster", cpu)
    await tgi.report()
    deployment = await deploy(sessions, "faster", model, server="tgi")
    assert await place(sessions, deployment)
    assert [wanted.revision.revision for wanted in await cpu.report()] == [1]
    assert [wanted.revision.revision for wanted in await tgi.report()] == [2]
    await tgi.serves(deployment, 2)
    assert await cpu.report() == []
    assert await answering(sessions) == {"faster": 2}


async def test_places_are_given_to_one_deployment_each_even_by_controllers_side_by_side(sessions: Sessions) -> None:
    launcher = Launcher(sessions, places=3)
    await launcher.report()
    model = await registered(sessions)
    made = [await deploy(sessions, f"one-of-{number}", model) for number in range(5)]
    await asyncio.gather(*(place(sessions, deployment) for deployment in made for _ in range(2)))
    wanted = await launcher.report()
    assert len(wanted) == 3
    assert len({item.deployment.id for item in wanted}) == 3
    left = [item for item in [await found(sessions, row.id) for row in made] if item.state == "waiting"]
    assert len(left) == 2
    assert not await place(sessions, left[0])
    assert "all 3 places on servers of kind cpu are taken" in (await found(sessions, left[0].id)).detail


async def test_posts_of_one_name_at_the_same_moment_become_revisions_of_one_deployment(sessions: Sessions) -> None:
    model = await registered(sessions)
    made = await asyncio.gather(*(deploy(sessions, "crowd", model) for _ in range(8)))
    assert len({deployment.id for deployment in made}) == 1
    assert await revision_states(sessions, made[0].id) == ["replaced"] * 7 + ["pending"]
    assert [number for _, number in await history(sessions, made[0].id)] == list(range(1, 9))


# Launchers that are gone.


async def forget(sessions: Sessions, launcher: Launcher, seconds: float) -> None:
    """As if the launcher had been silent for so long."""
    async with sessions() as session, session.begin():
        await session.execute(
            sa.text("UPDATE model_server SET heartbeat_at = now() - make_interval(secs => :s) WHERE launcher = :name"),
            {"s": seconds, "name": launcher.name},
        )


async def age(sessions: Sessions, launcher: Launcher) -> None:
    """As if the launcher had reported for an hour."""
    async with sessions() as session, session.begin():
        await session.execute(
            sa.text("UPDATE model_server SET live_since = now() - interval '1 hour' WHERE launcher = :name"),
            {"name": launcher.name},
        )


async def test_a_silent_launcher_keeps_its_deployment_while_there_is_no_other(sessions: Sessions) -> None:
    launcher = Launcher(sessions)
    await served(sessions, "silent", launcher)
    await forget(sessions, launcher, 40)
    await lose(sessions, f"{launcher.name}/0")
    now = await found(sessions, "silent")
    assert now.state == "waiting"
    assert "has not been heard of" in now.detail
    (wanted,) = await launcher.report()
    assert wanted.revision.revision == 1, "it goes on with what it serves: the api was away, not the launcher"
    assert (await found(sessions, "silent")).state == "ready"


async def test_the_deployment_of_a_dead_launcher_moves_to_one_that_was_heard_all_the_while(sessions: Sessions) -> None:
    dead, young, old = Launcher(sessions), Launcher(sessions), Launcher(sessions)
    await served(sessions, "moves", dead)
    deployment = await found(sessions, "moves")
    await young.report()
    await forget(sessions, dead, 40)
    await lose(sessions, f"{dead.name}/0")
    assert not await has_no_place(sessions, deployment.id), "a launcher just heard may only be back before the other"
    await old.report()
    await age(sessions, old)
    await lose(sessions, f"{dead.name}/0")
    assert await has_no_place(sessions, deployment.id)
    assert await answering(sessions) == {}
    assert await place(sessions, deployment)
    assert await dead.report() == [], "when it comes back it is told to end what it has"
    taker = young if await young.report() else old
    await taker.serves(deployment, 1)
    assert await answering(sessions) == {"moves": 1}
    assert ("lost", 1) in await history(sessions, deployment.id)


async def has_no_place(sessions: Sessions, deployment_id: str) -> bool:
    async with sessions() as session:
        return deployment_id in await ModelServerRepository(session, TERMS).unplaced()


async def test_a_launcher_that_leaves_gives_its_deployments_up_at_once(sessions: Sessions) -> None:
    launcher = Launcher(sessions)
    await served(sessions, "leaves", launcher)
    await launcher.report(leaving=True)
    assert await answering(sessions) == {}
    async with sessions() as session:
        assert await ModelServerRepository(session, TERMS).lost() == [f"{launcher.name}/0"]
    await lose(sessions, f"{launcher.name}/0")
    now = await found(sessions, "leaves")
    assert (now.state, now.detail) == ("waiting", f"the launcher {launcher.name} ended")
    assert not await place(sessions, now), "a leaving launcher takes nothing"
    launcher.places = [{"place": 0, "state": "empty"}]
    await launcher.report()
    assert await place(sessions, now)


async def test_places_that_a_launcher_has_no_more_are_given_up(sessions: Sessions) -> None:
    launcher = Launcher(sessions, places=2)
    await launcher.report()
    model = await registered(sessions)
    both = [await deploy(sessions, f"place-{number}", model) for number in range(2)]
    for deployment in both:
        assert await place(sessions, deployment)
    launcher.places = launcher.places[:1]
    await launcher.report()
    async with sessions() as session:
        assert await ModelServerRepository(session, TERMS).lost() == [f"{launcher.name}/1"]


# GPUs.


async def test_a_place_with_gpus_is_given_only_with_its_devices_and_holds_them_until_it_is_empty(
    sessions: Sessions,
) -> None:
    launcher = Launcher(sessions, kind="tgi", gpus_per_place=2, devices=(0, 1, 2), host="gpu-machine")
    await launcher.report()
    async with sessions() as session, session.begin():
        await GpuSlotRepository(session).claim("gpu-machine", [0, 1, 2], 2, attempt_holder(5), 60)
    deployment = await deploy(sessions, "gpu", await registered(sessions), server="tgi")
    assert not await place(sessions, deployment)
    assert "waits for 2 free GPUs of gpu-machine" in (await found(sessions, "gpu")).detail
    async with sessions() as session, session.begin():
        await GpuSlotRepository(session).release(attempt_holder(5))
    assert await place(sessions, deployment)
    (wanted,) = await launcher.report()
    assert wanted.devices == (0, 1)
    await launcher.serves(deployment, 1)
    await stop(sessions, "gpu")
    holder = server_holder(f"{launcher.name}/0")
    await launcher.report()
    async with sessions() as session:
        assert await GpuSlotRepository(session).held_by(holder) == (0, 1), "the server still ends"
    launcher.places = [{"place": 0, "state": "empty"}]
    await launcher.report()
    async with sessions() as session:
        assert await GpuSlotRepository(session).held_by(holder) == ()


async def test_a_server_whose_lease_of_gpus_ran_out_gives_its_deployment_up(sessions: Sessions) -> None:
    short = LauncherTerms(30, 0.05)
    launcher = Launcher(sessions, kind="tgi", gpus_per_place=1, devices=(0,), host="late-machine")
    await launcher.report()
    deployment = await deploy(sessions, "late", await registered(sessions), server="tgi")
    assert await place(sessions, deployment, short)
    await asyncio.sleep(0.1)
    assert await launcher.serves(deployment, 1) == []
    now = await found(sessions, "late")
    assert now.state == "waiting"
    assert "ran out" in now.detail
    assert await answering(sessions) == {}


# Jobs' own deployments.


async def test_a_jobs_deployment_ends_with_its_job_and_a_step_may_ask_twice(sessions: Sessions) -> None:
    job = await submitted(sessions)
    model = await registered(sessions, job_id=job.id)
    first = await deploy(sessions, "of-job", model, job_id=job.id)
    assert (await deploy(sessions, "of-job", model, job_id=job.id)).wanted_revision == 1
    with pytest.raises(DeploymentConflict, match=job.id):
        await deploy(sessions, "of-job", model)
    async with sessions() as session, session.begin():
        assert await ModelServerRepository(session, TERMS).stop_of_ended_jobs() == 0
        await session.execute(sa.text("UPDATE job SET state = 'failed' WHERE id = :id"), {"id": job.id})
    async with sessions() as session, session.begin():
        assert await ModelServerRepository(session, TERMS).stop_of_ended_jobs() == 1
    assert (await found(sessions, first.id)).detail == "its job has ended"


# What can be served.


async def test_the_base_of_adapters_is_found_wherever_it_is(sessions: Sessions) -> None:
    job = await submitted(sessions)
    whole = await registered(sessions, job_id=job.id, stage="sft")
    places = {
        ("registry", whole): StoredFiles,
        ("stage", "sft"): StoredFiles,
        ("folder", "mistral"): OperatorFolder,
        ("hub", "mistralai/Mistral-7B-v0.2"): HubModel,
    }
    for number, ((source, name), kind) in enumerate(places.items()):
        base = {"source": source, "name": name, "revision": "abc"}
        made = await registered(sessions, job_id=job.id, stage=f"lora-{number}", adapter_only=True, base=base)
        async with sessions() as session:
            found_model = await served_model(session, PROJECT, made)
        assert isinstance(found_model.base, kind)
        assert found_model.adapters is not None
        assert found_model.adapters.kind == "adapter"
        if isinstance(found_model.base, StoredFiles):
            assert found_model.base.model_id == whole
        if isinstance(found_model.base, HubModel):
            assert found_model.base == HubModel("mistralai/Mistral-7B-v0.2", "abc")


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ({"source": "random", "name": "tiny-mistral"}, "random weights"),
        ({"source": "registry", "name": "model_nowhere"}, "is not registered"),
        ({"source": "stage", "name": "nowhere"}, "is not registered"),
        ({}, "does not say"),
    ],
)
async def test_adapters_without_a_base_are_refused_in_words(
    sessions: Sessions, base: dict[str, str], words: str
) -> None:
    model = await registered(sessions, adapter_only=True, base=base)
    with pytest.raises(InputRefused, match=words) as raised:
        await deploy(sessions, "baseless", model)
    assert raised.value.pointer == "/target/registry"
    with pytest.raises(DeploymentNotFound):
        await found(sessions, "baseless")


async def test_reward_models_are_for_the_cpu_server_alone_and_unknown_models_for_none(sessions: Sessions) -> None:
    reward = await registered(sessions, method="rm")
    with pytest.raises(InputRefused, match="no scores") as raised:
        await deploy(sessions, "scores", reward, server="tgi")
    assert raised.value.pointer == "/options/server"
    assert (await deploy(sessions, "scores", reward)).state == "waiting"
    with pytest.raises(InputRefused, match="no registered model"):
        await deploy(sessions, "unknown", "model_unknown")
