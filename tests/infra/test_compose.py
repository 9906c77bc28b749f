"""docker-compose.yml keeps what docs/deployment.md says of it: confinement, networks, secrets, limits, health, roles."""

import re
from typing import Any

import pytest

from services.api.__main__ import SHUTDOWN_SECONDS
from services.inference.launcher import parse_options
from shared.domain.plan import SERVICES
from shared.settings import ENVIRONMENT_PREFIX, Settings
from shared.settings.secrets import LIBRARY_SECRETS
from shared.stages.worker import parse_roles
from tests.support.compose_file import ROOT, compose_file, seconds, services

ALL = services()
OURS = [name for name, service in ALL.items() if "dockerfile" in service.get("build", {}) and "tgi" not in name]
OURS = [name for name in OURS if name != "docker-proxy"]
ONE_SHOTS = ["minio-folder", "migrate", "bucket-init"]
WORKERS = [name for name, service in ALL.items() if "multifacet.roles" in service.get("labels", {})]
LAUNCHERS = ["model-server", "model-server-tgi"]
OUTWARD = {*WORKERS, *LAUNCHERS, "api"}
"""Who asks teachers, judges or the Hub."""

LAUNCHER_VARIABLES = {"MULTIFACET_URL", "MULTIFACET_GPU_HOST", "MULTIFACET_MODELS_FOLDER", "MULTIFACET_HEALTH_FILE"}
PROVIDER_VARIABLES = {"MULTIFACET_SIMULATOR_URL"}
COMMAND_VARIABLES = {"MULTIFACET_URL", "MULTIFACET_API_KEY_FILE"}
"""What `multifacet` reads, typed inside the api's container."""


def environment(name: str) -> dict[str, str]:
    found: dict[str, str] = ALL[name].get("environment", {})
    return found


def mounted(name: str) -> list[str]:
    found: list[str] = ALL[name].get("secrets", [])
    return found


def limits(name: str) -> dict[str, Any]:
    found: dict[str, Any] = ALL[name]["deploy"]["resources"]["limits"]
    return found


@pytest.mark.parametrize("name", ALL)
def test_no_container_has_more_rights_than_it_needs(name: str) -> None:
    service = ALL[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert service.get("read_only", False) or name == "model-server-tgi"
    more = {
        "postgres": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"],
        "minio-folder": ["CHOWN", "DAC_OVERRIDE"],
    }
    assert service.get("cap_add", []) == more.get(name, [])
    assert service["init"] is True  # whoever becomes an orphan in a container is nobody's unknown child
    if name in OURS:
        assert service["user"] == ("0:0" if name == "minio-folder" else "10001:10001")


@pytest.mark.parametrize("name", ALL)
def test_no_container_can_fill_the_machine(name: str) -> None:
    assert set(limits(name)) == {"cpus", "memory", "pids"}
    assert ALL[name]["logging"]["driver"] == "json-file"
    assert set(ALL[name]["logging"]["options"]) == {"max-size", "max-file"}
    for mount in ALL[name].get("tmpfs", []):
        assert ":size=" in mount or "size=" in mount


def test_redis_is_full_before_its_container_is() -> None:
    command = " ".join(ALL["redis"]["command"])
    (most,) = re.findall(r'--maxmemory "(\d+)mb"', command)
    assert int(most) < int(limits("redis")["memory"].removesuffix("m"))
    assert "noeviction" in command


@pytest.mark.parametrize("name", sorted(set(ALL) - set(ONE_SHOTS) - {"minio"}))
def test_every_lasting_container_has_a_health_check(name: str) -> None:
    check = ALL[name]["healthcheck"]
    assert set(check) >= {"test", "interval", "timeout", "retries", "start_period"}
    if name in {*WORKERS, "controller", "autoscaler", "model-server"}:
        assert check["test"][:4] == ["CMD", "python", "-m", "shared.telemetry.healthy"]
        oldest = float(check["test"][4])
        settings = Settings()
        assert oldest >= 3 * max(settings.heartbeat_seconds, settings.controller_tick_seconds)
        assert environment(name)["MULTIFACET_HEALTH_FILE"].startswith("/tmp/")


@pytest.mark.parametrize("name", ALL)
def test_restarts_fit_the_role(name: str) -> None:
    restart = ALL[name]["restart"]
    if name in ONE_SHOTS:
        assert restart == "on-failure:5"
        assert ALL[name]["healthcheck"] == {"disable": True}
    elif name in WORKERS:
        assert restart == "on-failure"  # one that left by itself stays away
    else:
        assert restart == "unless-stopped"


def test_preparation_ends_before_who_needs_it_begins() -> None:
    done = "service_completed_successfully"
    for name in {*OURS} - {*ONE_SHOTS, "simulator", "model-server", "autoscaler"}:
        needs = {needed: entry["condition"] for needed, entry in ALL[name]["depends_on"].items()}
        assert needs == {"migrate": done, "bucket-init": done, "redis": "service_healthy"}, name
    assert ALL["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert ALL["minio"]["depends_on"]["minio-folder"]["condition"] == done


@pytest.mark.parametrize("name", ALL)
def test_a_container_that_is_told_to_stop_has_the_time_that_its_process_takes(name: str) -> None:
    if name in ONE_SHOTS:
        return
    grace = seconds(ALL[name]["stop_grace_period"])
    if name in WORKERS:
        cancel = float(environment(name).get("MULTIFACET_CANCEL_GRACE_SECONDS", Settings().cancel_grace_seconds))
        assert grace >= cancel + 15
    elif name == "api":
        assert grace >= SHUTDOWN_SECONDS + 5
    elif name in LAUNCHERS:
        command = ["--api=http://api:8080", "--gpus-per-place=0", *ALL[name]["command"]]
        options = parse_options([part for part in command if part.startswith("--")])
        assert grace >= options.stop_seconds + 15


def test_nothing_but_the_api_and_the_consoles_is_published_and_only_on_this_machine() -> None:
    published = {name: service["ports"] for name, service in ALL.items() if "ports" in service}
    assert published == {
        "api": ["127.0.0.1:8080:8080"],
        "minio": ["127.0.0.1:9001:9001"],
        "grafana": ["127.0.0.1:3000:3000"],
    }
    assert ALL["grafana"]["profiles"] == ["observability"]


def test_only_who_asks_teachers_or_the_hub_gets_out() -> None:
    networks = compose_file()["networks"]
    assert networks["core"] == {"internal": True}
    assert networks["docker-api"] == {"internal": True}
    assert networks["edge"]["driver_opts"] == {"com.docker.network.bridge.enable_ip_masquerade": "false"}
    assert {name for name, service in ALL.items() if "egress" in service["networks"]} == OUTWARD
    assert {name for name, service in ALL.items() if "edge" in service["networks"]} == {"minio", "grafana"}
    assert ALL["minio-folder"]["network_mode"] == "none"
    for service in ALL.values():
        assert set(service["networks"]) <= set(networks)


def test_the_engine_is_reached_by_the_proxy_alone_and_the_proxy_by_the_autoscaler_alone() -> None:
    with_socket = [
        name
        for name, service in ALL.items()
        if any("docker.sock" in str(mount) for mount in service.get("volumes", []))
    ]
    assert with_socket == ["docker-proxy"]
    assert ALL["docker-proxy"]["networks"] == ["docker-api"]
    assert {name for name, service in ALL.items() if "docker-api" in service["networks"]} == {
        "docker-proxy",
        "autoscaler",
    }


@pytest.mark.parametrize("name", ALL)
def test_secrets_come_as_files_and_only_to_who_uses_them(name: str) -> None:
    used = set()
    for variable, value in environment(name).items():
        if variable.endswith("_FILE") and value.startswith("/run/secrets/"):
            used.add(value.removeprefix("/run/secrets/"))
        secret = re.search(r"PASSWORD|SECRET|TOKEN|API_KEY|ACCESS_KEY|BOOTSTRAP|PERSPECTIVE", variable)
        assert secret is None or value.startswith("/run/secrets/"), f"{variable} holds a secret in plain"
        assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), f"{variable} holds a password"
    text = str(ALL[name].get("command", "")) + str(ALL[name].get("healthcheck", ""))
    for mount in map(str, ALL[name].get("volumes", [])):
        if mount.startswith("./") and (ROOT / mount.split(":")[0]).is_file():
            text += (ROOT / mount.split(":")[0]).read_text()
    used |= set(re.findall(r"/run/secrets/(\w+)", text))
    assert sorted(used) == sorted(mounted(name))


@pytest.mark.parametrize("name", [*OURS, "model-server-tgi"])
def test_every_variable_of_ours_is_a_setting(name: str) -> None:
    for variable in environment(name):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            known = {f"{secret}_FILE" for secret in LIBRARY_SECRETS} | {"OPENAI_API_KEY_FILE"}
            known |= {"HF_HOME", "HF_HUB_DISABLE_TELEMETRY", "MLFLOW_TRACKING_URI", "TMPDIR"}
            assert variable in known
        elif name in LAUNCHERS:
            assert variable in LAUNCHER_VARIABLES | {"MULTIFACET_LAUNCHER_TOKEN_FILE"}
        elif variable not in PROVIDER_VARIABLES | (COMMAND_VARIABLES if name == "api" else set()):
            assert variable.removeprefix(ENVIRONMENT_PREFIX).lower() in Settings.model_fields


@pytest.mark.parametrize("name", OURS)
def test_the_settings_of_a_container_can_be_used(name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in environment(name).items():
        if value.startswith("/run/secrets/"):
            file = tmp_path / value.rsplit("/", 1)[-1]
            file.write_text(f"of-{file.name}\n")
            monkeypatch.setenv(variable, str(file))
        elif value:
            monkeypatch.setenv(variable, value)
    settings = Settings()
    if "MULTIFACET_DATABASE_URL" in environment(name):
        assert settings.database_url.startswith("postgresql+psycopg://multifacet:of-database_password@postgres")
    if "MULTIFACET_REDIS_URL" in environment(name):
        assert settings.redis_url == "redis://:of-redis_password@redis:6379/0"
    if "MULTIFACET_S3_ENDPOINT" in environment(name):
        assert (settings.s3_access_key, settings.s3_secret_key.get_secret_value()) == (
            "of-s3_access_key",
            "of-s3_secret_key",
        )


def test_every_role_has_a_service_whose_label_tells_the_autoscaler_the_roles_of_its_command() -> None:
    served = set()
    for name in WORKERS:
        service = ALL[name]
        roles = parse_roles(service["command"][-1])
        assert service["command"][:-1] == ["multifacet", "worker", "--roles"]
        assert parse_roles(service["labels"]["multifacet.roles"]) == roles
        assert environment(name)["MULTIFACET_POOL_MINIMUM"] == service["labels"]["multifacet.minimum"] == "0"
        assert float(environment(name)["MULTIFACET_WORKER_IDLE_SECONDS"]) > 0
        served |= set(roles)
    assert served == set(SERVICES)
    on_gpus = [name for name in WORKERS if "multifacet.gpu-host" in ALL[name]["labels"]]
    assert on_gpus == ["training-gpu"]
    assert ALL["training-gpu"]["labels"]["multifacet.gpu-host"] == environment("training-gpu")["MULTIFACET_GPU_HOST"]


def test_workers_and_their_least_number_are_set_by_variables() -> None:
    given = services({"GENERATION_WORKERS": "7", "GENERATION_MINIMUM": "3", "WORKER_IDLE_SECONDS": "5"})["generation"]
    assert int(given["deploy"]["replicas"]) == 7
    assert given["labels"]["multifacet.minimum"] == given["environment"]["MULTIFACET_POOL_MINIMUM"] == "3"
    assert given["environment"]["MULTIFACET_WORKER_IDLE_SECONDS"] == "5"


@pytest.mark.parametrize("name", ALL)
def test_images_are_pinned_behind_variables(name: str) -> None:
    image = ALL[name]["image"]
    own = services(
        {"MULTIFACET_IMAGE": "a", "MULTIFACET_TORCH_IMAGE": "a", "MULTIFACET_TGI_IMAGE": "a"}
        | {f"{part}_IMAGE": "a" for part in ("POSTGRES", "REDIS", "MINIO", "DOCKER_PROXY", "PROMETHEUS", "GRAFANA")}
    )[name]["image"]
    assert own == "a"
    if not image.startswith("multifacet"):
        assert re.fullmatch(r"[\w./-]+:v?[\w.-]*\d+\.\d[\w.-]*|[\w./-]+:RELEASE\.[\w-]+", image), image


def test_profiles_are_two_and_the_rest_comes_up_by_itself() -> None:
    profiles = {name: service["profiles"] for name, service in ALL.items() if "profiles" in service}
    assert profiles == {
        "model-server-tgi": ["gpu"],
        "training-gpu": ["gpu"],
        "prometheus": ["observability"],
        "grafana": ["observability"],
    }
    for name in ("model-server-tgi", "training-gpu"):
        (device,) = ALL[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]


def test_files_that_are_mounted_are_there() -> None:
    for service in ALL.values():
        for mount in map(str, service.get("volumes", [])):
            if mount.startswith("./"):
                assert (ROOT / mount.split(":")[0]).exists(), mount


def test_what_prometheus_asks_and_grafana_reads_are_services_in_one_network() -> None:
    asked = re.findall(r'"([\w-]+):\d+"', (ROOT / "infra/prometheus/prometheus.yml").read_text())
    read = re.findall(
        r"http://([\w-]+):\d+", (ROOT / "infra/grafana/provisioning/datasources/multifacet.yml").read_text()
    )
    assert asked == ["api"]
    assert read == ["prometheus"]
    for name in ("api", "prometheus", "grafana"):
        assert "core" in ALL[name]["networks"]
