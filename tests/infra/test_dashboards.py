"""The dashboard and the alerts read metrics that a living api tells, by labels and values that it has."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import sqlalchemy as sa
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.services.api.support import api_settings, client_of, running_app, state_of

ROOT = Path(__file__).parents[2]
DASHBOARDS = sorted((ROOT / "infra/grafana/dashboards").glob("*.json"))
ALERTS = ROOT / "infra/prometheus/alerts.yml"
PROMETHEUS = ROOT / "infra/prometheus/prometheus.yml"
PROVISIONING = ROOT / "infra/grafana/provisioning"

SCRAPE_LABELS = {"job", "instance"}
"""What Prometheus adds to each series."""
OF_PROMETHEUS = {"up"}
ENDLESS_LABELS = {"model", "provider", "group", "code", "route", "le", "method", "job", "instance"}
"""Labels whose values are not known beforehand."""

Labels = dict[str, dict[str, set[str]]]
"""Metric -> label -> values that were told."""


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in DASHBOARDS:
        for panel in load(path)["panels"]:
            if panel["type"] != "row":
                yield f"{path.stem}: {panel['title']}", panel


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def expressions() -> dict[str, str]:
    """Every expression by where it stands, with Grafana's variables filled in as Grafana does."""
    found = {f"alert {rule['alert']}": rule["expr"] for rule in rules()}
    for name, panel in panels():
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", "5m").replace("$pool", ".*")
            found[f"panel {name} {target['refId']}"] = text
    return found


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    found: list[promql_parser.VectorSelector] = []

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def grouped_by(expression: str) -> set[str]:
    found: set[str] = set()

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            found.update(node.modifier.labels)
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


async def scrape_of_a_system_that_worked(postgres_url: str, folder: Path) -> Labels:
    """What an api tells where there is one of everything that labels are made of."""
    async with running_app(api_settings(postgres_url, folder, authentication="loopback")) as app:
        async with state_of(app).transaction() as session:
            await session.execute(
                sa.text(
                    "INSERT INTO usage (job_id, stage, provider, model, request_class, project_id) "
                    "VALUES ('job_1', 'respond', 'p', 'm', 'respond', 'default') ON CONFLICT DO NOTHING"
                )
            )
            await session.execute(
                sa.text(
                    "INSERT INTO worker_group (name, roles, minimum, maximum, desired, running) "
                    "VALUES ('cpu', '{curation}', 0, 1, 1, 1) ON CONFLICT DO NOTHING"
                )
            )
        async with client_of(app, None, "http://127.0.0.1") as client:
            await client.get("/v1/jobs")
            answer = await client.get("/metrics")
    told: Labels = {}
    for family in text_string_to_metric_families(answer.text):
        # A family without any series now has none of its labels here: its name is told all the same.
        told.setdefault(f"{family.name}_total" if family.type == "counter" else family.name, {})
        for sample in family.samples:
            labels = told.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return told


@pytest.fixture
async def scrape(postgres_url: str, tmp_path: Path) -> Labels:
    return await scrape_of_a_system_that_worked(postgres_url, tmp_path)


def faults_of(told: dict[str, str], scrape: Labels) -> list[str]:
    """What expressions read that a scrape does not have."""
    faults = []
    for place, expression in told.items():
        read = [selector for selector in selectors(expression) if selector.name not in OF_PROMETHEUS]
        for selector in read:
            if selector.name not in scrape:
                faults.append(f"{place}: no metric {selector.name}")
                continue
            faults += [
                f"{place}: {selector.name} has no {matcher.name} {matcher.value!r}"
                for matcher in selector.matchers.matchers
                if not has_value(scrape[selector.name], matcher)
            ]
        # Failed attempts tell their code, and there are none in the scrape.
        carried = SCRAPE_LABELS.union({"code"}, *(scrape.get(selector.name, {}) for selector in read))
        faults += [f"{place}: grouped by {label}" for label in sorted(grouped_by(expression) - carried)]
    return faults


def has_value(labels: dict[str, set[str]], matcher: promql_parser.Matcher) -> bool:
    if matcher.name in SCRAPE_LABELS:
        return True
    values = labels.get(matcher.name, set())
    if matcher.name in ENDLESS_LABELS:
        return bool(values)
    if matcher.name == "status":
        values = {"2xx", "3xx", "4xx", "5xx"}
    if matcher.op in (promql_parser.MatchOp.Re, promql_parser.MatchOp.NotRe):
        parts = matcher.value.split("|")
        return all(any(re.fullmatch(part, value) for value in values) for part in parts)
    return matcher.value in values


async def test_every_expression_reads_metrics_labels_and_values_that_an_api_tells(scrape: Labels) -> None:
    assert len(expressions()) > 50
    assert faults_of(expressions(), scrape) == []


async def test_the_check_finds_what_is_not_there(scrape: Labels) -> None:
    wrong = {
        "metric": 'max by (pool) (rate(multifacet_invented_total{pool="curation"}[5m]))',
        "value": 'max(multifacet_jobs{state="lost"})',
        "pattern": 'max(multifacet_jobs{state=~"queued|lost"})',
        "label": 'max(multifacet_jobs{pool="curation"})',
        "group": "sum by (stage) (multifacet_jobs)",
    }
    assert [fault.partition(":")[0] for fault in faults_of(wrong, scrape)] == [
        "metric",
        "metric",
        "value",
        "pattern",
        "label",
        "group",
    ]


async def test_every_figure_of_ours_is_shown_or_watched(scrape: Labels) -> None:
    read = {selector.name for expression in expressions().values() for selector in selectors(expression)}
    ours = {
        name
        for name in scrape
        if name.startswith("multifacet_") and not name.endswith(("_created", "_sum", "_bucket", "_count"))
    }
    histograms = {"multifacet_http_request_seconds"}
    assert ours - read - histograms == set()


@pytest.mark.parametrize(("name", "panel"), list(panels()), ids=[name for name, _ in panels()])
def test_a_panel_says_what_it_shows_in_which_unit_from_the_datasource_that_is_provided(
    name: str, panel: dict[str, Any]
) -> None:
    provided = yaml.safe_load((PROVISIONING / "datasources/multifacet.yml").read_text())["datasources"]
    uids = {source["uid"] for source in provided}
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] in uids
    assert all(target["datasource"]["uid"] in uids for target in panel["targets"])
    if panel["type"] == "timeseries":
        assert all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_have_a_place_of_their_own(path: Path) -> None:
    found = load(path)["panels"]
    assert len({panel["id"] for panel in found}) == len(found)
    for one, other in combinations(found, 2):
        a, b = one["gridPos"], other["gridPos"]
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (one["title"], other["title"])
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in found)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_urgent_it_is_and_what_it_means(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"Multifacet[A-Z]\w+", rule["alert"])
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["description"].endswith(".")
    assert rule["annotations"]["summary"]
    text = " ".join(rule["annotations"].values())
    labels = set(re.findall(r"\$labels\.(\w+)", text))
    assert labels <= grouped_by(rule["expr"]), "a label that the expression does not keep would be empty"


def test_the_names_of_alerts_are_given_once() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)


def test_prometheus_scrapes_the_api_with_its_token_and_reads_the_rules() -> None:
    config = yaml.safe_load(PROMETHEUS.read_text())
    (scrape,) = config["scrape_configs"]
    assert (scrape["job_name"], scrape["metrics_path"]) == ("multifacet", "/metrics")
    assert scrape["authorization"]["credentials_file"] == "/run/secrets/metrics_token"
    assert config["rule_files"] == [ALERTS.name]
