"""Each alert fires in the situation that it is for, and not beside it; tried by promtool, Prometheus' own tool."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

PROMETHEUS = Path(__file__).parents[2] / "infra/prometheus"
ALERTS = PROMETHEUS / "alerts.yml"

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: Debian's package `prometheus` has it"
)

UP = {'up{job="multifacet"}': "1x90", "multifacet_database_up": "1x90"}
"""A system in order: so many samples, one a minute."""
MINUTES = 90
LIMITED = 'provider="p", model="limited"'
DOWN = 'provider="p", model="down"'
ALONE = ("MultifacetApiDown", "MultifacetDatabaseUnreachable")
"""What is wrong there hides other things that are."""

# Alert, its labels, what is wrong, and what is nearly so.
SITUATIONS: list[tuple[str, dict[str, str], dict[str, str], dict[str, str]]] = [
    ("MultifacetApiDown", {}, {'up{job="multifacet"}': "0x90"}, {'up{job="multifacet"}': "0 1x90"}),
    (
        "MultifacetDatabaseUnreachable",
        {},
        {"multifacet_database_up": "0x90"},
        {"multifacet_database_up": "1x30 0 1x90"},
    ),
    ("MultifacetNoController", {}, {"multifacet_controller_leads": "0x90"}, {"multifacet_controller_leads": "0 1x90"}),
    (
        "MultifacetOutboxStuck",
        {},
        {"multifacet_outbox_oldest_seconds": "0+60x90"},
        {"multifacet_outbox_oldest_seconds": "50x90"},
    ),
    (
        "MultifacetDatabaseConnectionsNearLimit",
        {},
        {"multifacet_database_connections": "90x90", "multifacet_database_connections_limit": "100x90"},
        {"multifacet_database_connections": "80x90", "multifacet_database_connections_limit": "100x90"},
    ),
    (
        "MultifacetMetricsSlow",
        {},
        {"multifacet_metrics_count_seconds": "3x90"},
        {"multifacet_metrics_count_seconds": "1x90"},
    ),
    (
        "MultifacetPoolWithoutWorkers",
        {"pool": "generation"},
        {'multifacet_pool_ready_steps{pool="generation"}': "1x90", 'multifacet_pool_slots{pool="generation"}': "0x90"},
        {'multifacet_pool_ready_steps{pool="training"}': "1x90", 'multifacet_pool_slots{pool="training"}': "1x90"},
    ),
    (
        # Its worker has left: that alone is no fault while every GPU is taken.
        "MultifacetTrainingsWaitForGpus",
        {},
        {
            'multifacet_pool_ready_steps{pool="training"}': "1x90",
            'multifacet_pool_slots{pool="training"}': "0x90",
            'multifacet_steps{pool="training", state="ready"}': "2x90",
            'multifacet_gpu_slots{holder="free"}': "0x90",
            'multifacet_gpu_slots{holder="server"}': "2x90",
        },
        {
            'multifacet_steps{pool="training", state="ready"}': "2x90",
            'multifacet_gpu_slots{holder="free"}': "1x90",
            'multifacet_gpu_slots{holder="server"}': "1x90",
        },
    ),
    (
        "MultifacetStepsWaitLong",
        {"pool": "evaluation"},
        {
            'multifacet_oldest_ready_step_seconds{pool="evaluation"}': "0+60x90",
            'multifacet_pool_slots{pool="evaluation"}': "1x90",
        },
        {
            'multifacet_oldest_ready_step_seconds{pool="evaluation"}': "900x90",
            'multifacet_pool_slots{pool="evaluation"}': "1x90",
        },
    ),
    (
        "MultifacetJobsQueuedLong",
        {},
        {"multifacet_oldest_queued_job_seconds": "0+60x90"},
        {"multifacet_oldest_queued_job_seconds": "900x90"},
    ),
    (
        "MultifacetWorkersLost",
        {"pool": "generation"},
        {'multifacet_lease_expiries_total{pool="generation"}': "0+1x90"},
        {'multifacet_lease_expiries_total{pool="generation"}': "0x80 1x10"},
    ),
    (
        "MultifacetAttemptsFail",
        {"pool": "generation"},
        {
            'multifacet_attempts_ended_total{pool="generation", end="failed"}': "0+2x90",
            'multifacet_attempts_ended_total{pool="generation", end="succeeded"}': "0+3x90",
        },
        {
            'multifacet_attempts_ended_total{pool="generation", end="failed"}': "0+2x90",
            'multifacet_attempts_ended_total{pool="generation", end="succeeded"}': "0+5x90",
        },
    ),
    (
        "MultifacetJobFailed",
        {},
        {'multifacet_jobs{state="failed"}': "3x80 4x10"},
        {'multifacet_jobs{state="failed"}': "3x90"},
    ),
    (
        "MultifacetWorkerGroupPaused",
        {"group": "cpu"},
        {'multifacet_worker_group_paused{group="cpu"}': "1x90"},
        {'multifacet_worker_group_paused{group="cpu"}': "0x90"},
    ),
    (
        "MultifacetWorkerGroupBehind",
        {"group": "cpu"},
        {
            'multifacet_worker_group_desired{group="cpu"}': "2x90",
            'multifacet_worker_group_running{group="cpu"}': "1x90",
        },
        {
            'multifacet_worker_group_desired{group="cpu"}': "2x90",
            'multifacet_worker_group_running{group="cpu"}': "2x90",
        },
    ),
    (
        "MultifacetAutoscalerSilent",
        {"group": "cpu"},
        {'multifacet_worker_group_seen_seconds{group="cpu"}': "0+60x90"},
        {'multifacet_worker_group_seen_seconds{group="cpu"}': "5x90"},
    ),
    (
        "MultifacetProviderLimits",
        {"provider": "p", "model": "limited"},
        {
            f"multifacet_llm_rate_limited_total{{{LIMITED}}}": "0+40x90",
            f"multifacet_llm_requests_total{{{LIMITED}}}": "0+100x90",
        },
        {
            f"multifacet_llm_rate_limited_total{{{LIMITED}}}": "0+20x90",
            f"multifacet_llm_requests_total{{{LIMITED}}}": "0+100x90",
        },
    ),
    (
        "MultifacetProviderDown",
        {"provider": "p", "model": "down"},
        {
            f"multifacet_llm_failed_tries_total{{{DOWN}}}": "0+40x90",
            f'multifacet_llm_answers_total{{{DOWN}, source="provider"}}': "70x90",
        },
        {
            f"multifacet_llm_failed_tries_total{{{DOWN}}}": "0+40x90",
            f'multifacet_llm_answers_total{{{DOWN}, source="provider"}}': "0+1x90",
        },
    ),
    (
        "MultifacetDeploymentFailed",
        {},
        {'multifacet_deployments{state="failed"}': "1x90"},
        {'multifacet_deployments{state="failed"}': "0x90"},
    ),
    (
        "MultifacetModelServersSilent",
        {},
        {'multifacet_model_servers{state="silent"}': "1x90"},
        {'multifacet_model_servers{state="silent"}': "0x90"},
    ),
    (
        "MultifacetApiErrors",
        {},
        {
            'multifacet_http_request_seconds_count{status="5xx"}': "0+3x90",
            'multifacet_http_request_seconds_count{status="2xx"}': "0+97x90",
        },
        {
            'multifacet_http_request_seconds_count{status="5xx"}': "0+1x90",
            'multifacet_http_request_seconds_count{status="2xx"}': "0+99x90",
        },
    ),
    (
        "MultifacetApiSlow",
        {},
        {
            'multifacet_http_request_seconds_bucket{method="GET", route="/v1/jobs", le="0.5"}': "0+50x90",
            'multifacet_http_request_seconds_bucket{method="GET", route="/v1/jobs", le="2.5"}': "0+100x90",
            'multifacet_http_request_seconds_bucket{method="GET", route="/v1/jobs", le="+Inf"}': "0+100x90",
        },
        {
            'multifacet_http_request_seconds_bucket{method="GET", route="/v1/jobs", le="0.5"}': "0+99x90",
            'multifacet_http_request_seconds_bucket{method="GET", route="/v1/jobs", le="2.5"}': "0+100x90",
            'multifacet_http_request_seconds_bucket{method="GET", route="/v1/jobs", le="+Inf"}': "0+100x90",
        },
    ),
]


def promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["promtool", *arguments], check=False, capture_output=True, text=True, timeout=300)


def series(told: dict[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in (UP | told).items()]


def rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def case(told: dict[str, str], expected: dict[str, dict[str, str] | None]) -> dict[str, Any]:
    """One situation, and each alert with its labels where it fires and None where it must not."""
    known = rules()
    asked = [
        {
            "eval_time": f"{MINUTES}m",
            "alertname": alert,
            "exp_alerts": [] if labels is None else [{"exp_labels": labels | known[alert]["labels"]}],
        }
        for alert, labels in expected.items()
    ]
    return {"interval": "1m", "input_series": series(told), "alert_rule_test": asked}


def all_wrong() -> dict[str, str]:
    return {name: values for alert, _, wrong, _ in SITUATIONS if alert not in ALONE for name, values in wrong.items()}


def cases() -> list[dict[str, Any]]:
    nearly = {name: values for *_, told in SITUATIONS for name, values in told.items()}
    fire = {alert: labels for alert, labels, *_ in SITUATIONS if alert not in ALONE}
    return [
        case(all_wrong(), fire | dict.fromkeys(ALONE)),
        case(nearly, dict.fromkeys(rules())),
        *(case(wrong, {alert: labels}) for alert, labels, wrong, _ in SITUATIONS if alert in ALONE),
    ]


def test_every_alert_has_a_situation() -> None:
    assert sorted(rules()) == sorted(alert for alert, *_ in SITUATIONS)


def test_prometheus_takes_its_configuration_and_rules(tmp_path: Path) -> None:
    token = tmp_path / "metrics_token"
    token.write_text("a-token")
    config = PROMETHEUS / "prometheus.yml"
    (tmp_path / config.name).write_text(config.read_text().replace("/run/secrets/metrics_token", str(token)))
    shutil.copy(ALERTS, tmp_path)
    checked = promtool("check", "config", str(tmp_path / config.name))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(SITUATIONS)} rules found" in checked.stdout


def try_rules(
    tmp_path: Path, rule_file: dict[str, Any], tried: list[dict[str, Any]]
) -> "subprocess.CompletedProcess[str]":
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(rule_file))
    tests = {"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": tried}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    return promtool("test", "rules", str(tmp_path / "tests.yml"))


def test_alerts_fire_where_they_should_and_nowhere_near(tmp_path: Path) -> None:
    rule_file = yaml.safe_load(ALERTS.read_text())
    for group in rule_file["groups"]:
        for rule in group["rules"]:
            del rule["annotations"]  # promtool compares them too, and their wording is no matter of this test
    checked = try_rules(tmp_path, rule_file, cases())
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_texts_of_alerts_can_be_filled_in(tmp_path: Path) -> None:
    """A template that cannot be is told in the annotation itself, where nobody looks before the night it is needed."""
    told = try_rules(tmp_path, yaml.safe_load(ALERTS.read_text()), [case(all_wrong(), dict.fromkeys(rules()))])
    shown = told.stdout + told.stderr
    assert "summary=" in shown, "nothing fired, so nothing was filled in"
    assert "error expanding template" not in shown
