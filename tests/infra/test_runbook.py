"""What the runbook names is there: commands with their options, services, settings, log lines, queries; alerts have entries."""

import re
import shlex
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer.main
import yaml

from services.cli.main import app
from shared.metadata.engine import connection_string
from shared.settings import ENVIRONMENT_PREFIX, Settings

ROOT = Path(__file__).parents[2]
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("runbook", "retention")}
RUNBOOK = PAGES["runbook"]
ALERTS = ROOT / "infra" / "prometheus" / "alerts.yml"

_COMPOSE_COMMANDS = frozenset({"build", "down", "exec", "logs", "ps", "restart", "run", "stop", "up"})
_TAKES_A_VALUE = frozenset({"--profile", "--scale", "--since", "--volume"})
_ONE_SERVICE = frozenset({"exec", "run"})
"""Compose commands whose further words are the command inside."""


def _spans(page: str) -> list[str]:
    """What stands as code: lines of blocks that are no SQL, and code within the text, on one line each."""
    blocks = [block for kind, block in re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE) if not kind]
    text = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [*filter(None, lines), *(" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text))]


def _commands(start: str) -> list[str]:
    """Every command that the pages name and that starts so, without that start."""
    found = (re.match(rf"{start} (.*)", span) for page in PAGES.values() for span in _spans(page))
    return sorted({match[1] for match in found if match is not None})


MULTIFACET = _commands("(?:docker compose (?:exec|run) (?:.* )?(?:api|controller) )?multifacet")
MAKE = _commands("make")
COMPOSE = _commands("(?:[A-Z_]+=[^ ]+ )*docker compose")


def _services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return found


def test_the_pages_name_commands_of_each_kind() -> None:
    assert (len(MULTIFACET) > 8, len(COMPOSE) > 15, MAKE) == (True, True, ["secrets", "upgrade-test"])


@pytest.mark.parametrize("line", MULTIFACET)
def test_every_multifacet_command_is_there_with_its_options(line: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options, line
    given = [word for word in words if not word.startswith("-")]
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    assert len(given) <= len(arguments) + sum(word.startswith("--") for word in words), line


@pytest.mark.parametrize("line", MAKE)
def test_every_make_target_is_there(line: str) -> None:
    targets = re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert line.split()[0] in targets


@pytest.mark.parametrize("line", COMPOSE)
def test_every_compose_command_names_services_that_are_there(line: str) -> None:
    words = shlex.split(line)
    plain: list[str] = []
    while words:
        word = words.pop(0)
        if word in _TAKES_A_VALUE:
            value = words.pop(0)
            if word == "--scale":
                assert value.partition("=")[0] in _services(), line
        elif not word.startswith("-"):
            plain.append(word)
    assert plain[0] in _COMPOSE_COMMANDS, line
    services = plain[1:2] if plain[0] in _ONE_SERVICE else plain[1:]
    assert set(services) <= set(_services()), line


def test_every_setting_that_is_named_is_read_by_something() -> None:
    known = {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields}
    others = (ROOT / "docker-compose.yml").read_text() + (ROOT / "services/cli/client.py").read_text()
    named = {name for page in PAGES.values() for name in re.findall(rf"{ENVIRONMENT_PREFIX}[A-Z_]+\b", page)}
    assert len(named) > 15
    assert {name for name in named - known if name not in others} == set()


def test_every_word_by_which_a_fault_is_seen_stands_in_the_code() -> None:
    seen = re.findall(r"\*\*Seen:\*\*.*?(?=\n\n)", RUNBOOK, re.DOTALL)
    words = {word for text in seen for word in re.findall(r"`([a-z]+_[a-z_]+)`", text)} - {"not_before"}
    code = "".join(path.read_text() for folder in ("services", "shared") for path in (ROOT / folder).rglob("*.py"))
    assert len(words) > 8
    assert {word for word in words if f'"{word}"' not in code} == set()


def test_every_query_runs(postgres_url: str) -> None:
    queries = re.findall(r"^```sql\n(.*?)^```", RUNBOOK, re.DOTALL | re.MULTILINE)
    assert len(queries) > 4
    with psycopg.connect(connection_string(postgres_url)) as connection:
        for query in queries:
            assert connection.execute(query.encode()).description, query


def test_every_table_that_is_told_to_grow_is_there(postgres_url: str) -> None:
    told = re.findall(r"^\| `([a-z_]+)` \|", RUNBOOK, re.MULTILINE)
    with psycopg.connect(connection_string(postgres_url)) as connection:
        rows = connection.execute("SELECT relname FROM pg_class WHERE relkind = 'r'").fetchall()
    assert told
    assert set(told) <= {name for (name,) in rows}


@pytest.mark.skipif(not ALERTS.exists(), reason="this tree has no alert rules")
def test_every_alert_has_an_entry() -> None:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    entries = set(re.findall(r"^\| `([A-Z][A-Za-z]+)` \|", RUNBOOK.partition("\n## Alerts\n")[2], re.MULTILINE))
    assert entries == alerts


def test_the_defaults_that_the_table_of_ages_tells_are_those_of_the_settings() -> None:
    row = r"^\| `MULTIFACET_(RETENTION_[A-Z]+_SECONDS)` \| [^|]* \| ([^|;]*)"
    told = {name.lower(): default.strip() for name, default in re.findall(row, PAGES["retention"], re.MULTILINE)}
    fields = {name for name in Settings.model_fields if name.startswith("retention_")} - {"retention_interval_seconds"}
    words = {"a day": 86_400.0, "7 days": 7 * 86_400.0, "0": 0.0}
    assert {name: words[default] for name, default in told.items()} == {
        name: Settings.model_fields[name].default for name in fields
    }
