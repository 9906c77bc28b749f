"""What KEDA would do: the queries of the cluster's scalers, asked of a real database by the user that may read nothing else."""

import math
from collections.abc import AsyncIterator, Sequence

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.domain.plan import SERVICES
from shared.metadata.engine import connection_string, create_engine, parse_url, session_factory
from shared.settings import Settings
from tests.support.kubernetes import FOLDER, Object, named, of_kind, pods_of, rendered, renderer
from tests.support.scheduling import Sessions, claim, dispatch, make_steps, submitted, unblock

pytestmark = pytest.mark.skipif(not renderer()[0], reason=renderer()[1] or "kustomize is there")

FOLDERS = ("base", "overlays/example", "overlays/trial")
PASSWORD = "of-the-scaler"


def scalers(folder: str) -> list[Object]:
    return of_kind(rendered(folder), "ScaledObject", "ScaledJob")


def query_of(scaler: Object) -> str:
    (trigger,) = scaler["spec"]["triggers"]
    assert trigger["type"] == "postgresql"
    return str(trigger["metadata"]["query"])


def target_of(scaler: Object) -> float:
    return float(scaler["spec"]["triggers"][0]["metadata"]["targetQueryValue"])


def workers_wanted(scaler: Object, demand: float) -> int:
    """As a HorizontalPodAutoscaler reckons with an average value, from zero when KEDA sees any demand, within the bounds."""
    wanted = math.ceil(demand / target_of(scaler)) if demand > 0 else 0
    return max(scaler["spec"].get("minReplicaCount", 0), min(wanted, scaler["spec"]["maxReplicaCount"]))


@pytest.fixture
async def sessions(postgres_url: str) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    engine = create_engine(postgres_url, pool_size=5)
    yield session_factory(engine)
    await engine.dispose()


@pytest.fixture(scope="module")
def scaler_url(postgres_url: str) -> str:
    """How the user of scaler-role.sql reaches the test's database."""
    script = (FOLDER / "scaler-role.sql").read_text(encoding="utf-8")
    with psycopg.connect(connection_string(postgres_url), autocommit=True) as connection:
        for statement in script.replace(":'password'", f"'{PASSWORD}'").split(";"):
            connection.execute(statement.encode())
    return (
        parse_url(postgres_url)
        .set(drivername="postgresql", username="multifacet_scaler", password=PASSWORD)
        .render_as_string(hide_password=False)
    )


def asked(url: str, query: str) -> float:
    with psycopg.connect(url) as connection:
        (row,) = connection.execute(query.encode()).fetchall()
        assert len(row) == 1, "the scaler reads one column of one row"
        assert isinstance(row[0], float), "as a float8, the type that the scaler reads into"
        return row[0]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_pool_has_the_scaler_of_its_own_workers(folder: str, scaler_url: str) -> None:
    with psycopg.connect(scaler_url) as connection:
        pools = {pool for (pool,) in connection.execute("SELECT pool FROM pool_demand")}
    assert pools == set(SERVICES)
    roles = {
        pods.owner["metadata"]["name"]: pods.command[pods.command.index("--roles") + 1]
        for pods in pods_of(rendered(folder))
        if "--roles" in pods.command
    }
    queried = {}
    for scaler in scalers(folder):
        name = scaler["spec"].get("scaleTargetRef", scaler["metadata"])["name"]
        (pool,) = [pool for pool in pools if f"pool = '{pool}'" in query_of(scaler)]
        assert roles[name] == pool
        queried[pool] = scaler["kind"]
    assert set(queried) == pools
    assert [pool for pool, kind in queried.items() if kind == "ScaledJob"] == ["training"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_target_is_what_one_worker_runs_at_once(folder: str) -> None:
    everything = {pods.owner["metadata"]["name"]: pods for pods in pods_of(rendered(folder))}
    for scaler in of_kind(rendered(folder), "ScaledObject"):
        pods = everything[scaler["spec"]["scaleTargetRef"]["name"]]
        slots = pods.values(rendered(folder)).get(
            "MULTIFACET_WORKER_SLOTS", Settings.model_fields["worker_slots"].default
        )
        assert target_of(scaler) == float(slots)
        assert "replicas" not in pods.owner["spec"], "an apply would undo what the scaler set"
        assert scaler["spec"]["minReplicaCount"] == 0
    training = named(rendered(folder), "ScaledJob", "training")
    assert target_of(training) == 1, "a pod of the ScaledJob runs one step"
    assert training["spec"]["scalingStrategy"]["strategy"] == "default", "others do not take off the pods that run"
    assert training["spec"]["rollout"]["strategy"] == "gradual", "a change must not end trainings"


def test_the_database_of_a_trial_takes_the_connections_of_all_that_may_run() -> None:
    objects = rendered("overlays/trial")
    workers = sum(scaler["spec"]["maxReplicaCount"] for scaler in scalers("overlays/trial"))
    slots = int(_settings(objects)["MULTIFACET_WORKER_SLOTS"])
    most = workers * (2 * (slots + 2) + 4) + 2 * 21 + 11 + 1 + 2 * len(SERVICES)
    page = (FOLDER.parents[1] / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    assert f"That is {most} where every pool" in page
    (argument,) = [
        a
        for a in named(objects, "StatefulSet", "postgres")["spec"]["template"]["spec"]["containers"][0]["args"]
        if "=" in a
    ]
    assert int(argument.removeprefix("max_connections=")) > most


def _settings(objects: Sequence[Object]) -> dict[str, str]:
    (data,) = [
        o["data"] for o in of_kind(objects, "ConfigMap") if o["metadata"]["name"].startswith("multifacet-settings")
    ]
    return dict(data)


async def test_the_queries_give_the_demand_of_a_real_database(sessions: Sessions, scaler_url: str) -> None:
    by_name = {scaler["metadata"]["name"]: scaler for scaler in scalers("base")}
    for scaler in by_name.values():
        assert asked(scaler_url, query_of(scaler)) == 0.0
        assert workers_wanted(scaler, 0.0) == 0, "nothing to do: no worker"
    curation, composition = by_name["curation"], by_name["composition"]
    job = await submitted(sessions)
    await make_steps(sessions, job, "curate", 1)
    assert asked(scaler_url, query_of(curation)) == 0.0, "a blocked step asks for nobody"
    await unblock(sessions)
    assert asked(scaler_url, query_of(curation)) == 1.0
    (doorbell,) = await dispatch(sessions, job)
    assert await claim(sessions, doorbell)
    assert asked(scaler_url, query_of(curation)) == 1.0, "a step that runs keeps its worker"
    assert workers_wanted(curation, 1.0) == 1
    await make_steps(sessions, job, "compose", 9)
    assert asked(scaler_url, query_of(composition)) == 0.0
    async with sessions() as session, session.begin():  # as if the stages before had ended
        await session.execute(sa.text("UPDATE step SET state = 'ready' WHERE queue = 'composition'"))
    assert asked(scaler_url, query_of(composition)) == 9.0
    assert workers_wanted(composition, 9.0) == composition["spec"]["maxReplicaCount"] == 4
    assert workers_wanted(composition, 5.0) == 3


def test_the_scaler_can_read_the_demand_and_nothing_else(scaler_url: str, postgres_url: str) -> None:
    with psycopg.connect(connection_string(postgres_url)) as connection:
        rows = connection.execute(
            "SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
            "WHERE nspname = 'public' AND relkind IN ('r', 'v', 'm', 'p')"
        ).fetchall()
    tables = {name for (name,) in rows}
    assert {"step", "job", "api_key", "pool_demand"} <= tables
    with psycopg.connect(scaler_url, autocommit=True) as connection:
        for table in tables - {"pool_demand"}:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"SELECT 1 FROM {table}".encode())
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectNotInPrerequisiteState)):
            connection.execute("DELETE FROM pool_demand")
