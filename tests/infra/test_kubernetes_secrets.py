"""Secrets of the cluster: what the objects name, what docs/kubernetes.md tells, and what make_secrets.py writes are the same."""

import json
import os
import re
import subprocess
import sys

import pytest

from shared.metadata.engine import parse_url
from tests.support.kubernetes import FOLDER, ROOT, of_kind, rendered, renderer, schema_faults, secret_references

pytestmark = pytest.mark.skipif(not renderer()[0], reason=renderer()[1] or "kustomize is there")

SCRIPT = FOLDER / "make_secrets.py"
GIVEN = {
    "MULTIFACET_DATABASE_URL": "postgresql+psycopg://owner:p%40ss@db.example.com:6432/facets?sslmode=verify-full",
    "MULTIFACET_REDIS_URL": "rediss://:pass@redis.example.com:6379/0",
    "MULTIFACET_S3_ACCESS_KEY": "an access key",
    "MULTIFACET_S3_SECRET_KEY": "a secret key",
    "SCALER_PASSWORD": "the scaler's",
    "OPENAI_API_KEY": "a provider's key",
    "HF_TOKEN": "a token of the Hub",
}


def made(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if name == "PATH"}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        check=False,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def contents(*arguments: str, **environment: str) -> dict[str, dict[str, str]]:
    answer = made(*arguments, **environment)
    assert answer.returncode == 0, answer.stderr
    items = json.loads(answer.stdout)["items"]
    assert not [fault for item in items for fault in schema_faults(item, "1.37")]
    return {item["metadata"]["name"]: item["stringData"] for item in items}


def told() -> dict[tuple[str, str], str]:
    """(Secret, key) -> needed, as the table of the page has it."""
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(multifacet-[a-z]+)` \| (.+?) \| (yes|no) \|", page, re.MULTILINE)
    return {(secret, key): needed for secret, keys, needed in rows for key in re.findall(r"`([^`]+)`", keys) or ["*"]}


def named_secrets() -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for folder in ("base", "overlays/example", "overlays/trial"):
        for secret, key, optional in secret_references(rendered(folder)):
            before = found.get((secret, key))
            found[secret, key] = "no" if optional and before != "yes" else "yes"
    return found


def test_the_page_tells_every_secret_that_is_named_and_no_other() -> None:
    assert told() == named_secrets()


@pytest.mark.parametrize("arguments", [("--trial",), ("--provider-key", "OPENAI_API_KEY")])
def test_the_script_writes_what_is_needed(arguments: tuple[str, ...]) -> None:
    written = contents(*arguments, **({} if "--trial" in arguments else GIVEN))
    for (secret, key), needed in named_secrets().items():
        if needed == "yes":
            assert written[secret][key], (secret, key)
    known = {(secret, key) for secret, key in named_secrets()}
    for secret, values in written.items():
        for key in values:
            assert (secret, key) in known or (secret, "*") in known, f"nothing reads {key} of {secret}"


def test_a_trial_agrees_with_itself_and_is_another_each_time() -> None:
    first, second = contents("--trial", "--namespace", "mine"), contents("--trial", "--namespace", "mine")
    url = parse_url(first["multifacet-core"]["database-url"])
    scaler = first["multifacet-scaler"]
    assert (url.username, url.password, url.database) == (scaler["user"], scaler["password"], scaler["database"])
    assert (url.host, str(url.port)) == ("postgres", scaler["port"])
    assert scaler["host"] == "postgres.mine.svc", "KEDA asks from another namespace"
    for secret, key in (
        ("multifacet-core", "database-url"),
        ("multifacet-core", "s3-access-key"),
        ("multifacet-core", "s3-secret-key"),
        ("multifacet-scaler", "password"),
        ("multifacet-launcher", "token"),
        ("multifacet-bootstrap", "key"),
    ):
        assert first[secret][key] != second[secret][key], (secret, key)
    made_up = [first["multifacet-core"]["s3-secret-key"], scaler["password"], first["multifacet-launcher"]["token"]]
    assert len(set(made_up)) == 3
    assert all(len(value) >= 43 for value in made_up), "256 bits"
    assert first["multifacet-bootstrap"]["key"].startswith("mf_")
    assert len(first["multifacet-bootstrap"]["key"]) >= 3 + 32


def test_a_deployment_is_given_what_exists_and_the_scaler_a_user_of_its_own() -> None:
    written = contents("--provider-key", "OPENAI_API_KEY", **GIVEN)
    assert written["multifacet-core"]["database-url"] == GIVEN["MULTIFACET_DATABASE_URL"]
    assert written["multifacet-scaler"] == {
        "host": "db.example.com",
        "port": "6432",
        "database": "facets",
        "user": "multifacet_scaler",
        "password": "the scaler's",
        "sslmode": "verify-full",
    }
    assert "CREATE ROLE multifacet_scaler" in (FOLDER / "scaler-role.sql").read_text(encoding="utf-8")
    assert written["multifacet-providers"] == {"OPENAI_API_KEY": "a provider's key"}
    assert written["multifacet-training"] == {"hf-token": "a token of the Hub"}


def test_what_is_missing_is_said_and_nothing_is_written() -> None:
    answer = made("--provider-key", "OPENAI_API_KEY", **{**GIVEN, "OPENAI_API_KEY": "", "MULTIFACET_REDIS_URL": " "})
    assert answer.returncode == 2
    assert "not set: MULTIFACET_REDIS_URL, OPENAI_API_KEY" in answer.stderr
    assert not answer.stdout
    answer = made(**{**GIVEN, "MULTIFACET_DATABASE_URL": "postgresql://"})
    assert answer.returncode == 2
    assert "names no host or no database" in answer.stderr


def test_the_scaler_is_told_all_that_it_asks_for() -> None:
    (authentication,) = of_kind(rendered("base"), "TriggerAuthentication")
    asked = {one["parameter"] for one in authentication["spec"]["secretTargetRef"]}
    assert asked == {"host", "port", "dbName", "userName", "password", "sslmode"}
