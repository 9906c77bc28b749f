"""What keeps a process from starting is one line with what to set, and exit status 1; a fault of the program is neither."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import OperationalError, ProgrammingError

from shared.metadata.engine import DatabaseUrlRefused, parse_url
from shared.settings import Settings
from shared.settings.start_up import CannotStart, ended_in_words, starting
from tests.support.servers import free_port

API, WORKER = ("services.api",), ("shared.stages.worker", "--roles", "all")
CONTROLLER, MIGRATE = ("services.controller",), ("services.cli", "migrate")
CREATE_KEY = ("services.api", "create-key")
RESTORE = ("services.cli", "restore", "a-folder")
NO_DATABASE = f"postgresql+psycopg://someone:a-password@127.0.0.1:{free_port()}/nothing"


def started(module: tuple[str, ...], **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MULTIFACET_")}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "NO_COLOR": "1", **settings}
    return subprocess.run(
        [sys.executable, "-m", *module], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("module", "settings", "said"),
    [
        (API, {"MULTIFACET_LEASE_SECONDS": "abc"}, "MULTIFACET_LEASE_SECONDS='abc'"),
        (WORKER, {"MULTIFACET_LEASE_SECONDS": "nan"}, "MULTIFACET_LEASE_SECONDS='nan'"),
        (CONTROLLER, {"MULTIFACET_LOG_LEVEL": "loud"}, "MULTIFACET_LOG_LEVEL='loud'"),
        (MIGRATE, {"MULTIFACET_API_PORT": "99999"}, "MULTIFACET_API_PORT='99999'"),
        (WORKER, {"MULTIFACET_DATABASE_URL": "postgresql://a-password@host:port/x"}, "MULTIFACET_DATABASE_URL"),
        (API, {"MULTIFACET_PROVIDERS_FILE": "/nope"}, "MULTIFACET_PROVIDERS_FILE"),
        (WORKER, {"MULTIFACET_PROVIDERS_FILE": "/nope"}, "MULTIFACET_PROVIDERS_FILE"),
        (API, {"MULTIFACET_BOOTSTRAP_KEY_FILE": "/nope"}, "MULTIFACET_BOOTSTRAP_KEY_FILE"),
        (
            MIGRATE,
            {"MULTIFACET_DATABASE_PASSWORD_FILE": "/nope"},
            "MULTIFACET_DATABASE_PASSWORD_FILE='/nope' cannot be used: /nope",
        ),
        (
            CONTROLLER,
            {"MULTIFACET_REDIS_PASSWORD": "changeme"},
            "MULTIFACET_REDIS_PASSWORD cannot be used: it is a value that",
        ),
        (
            API,
            {"MULTIFACET_S3_SECRET_KEY": "multifacet-secret"},
            "MULTIFACET_S3_SECRET_KEY cannot be used: it is a value that",
        ),
        (WORKER, {"HF_TOKEN_FILE": "/nope"}, "HF_TOKEN_FILE cannot be used: /nope"),
        (
            API,
            {"MULTIFACET_BOOTSTRAP_KEY": "mf_" + "k" * 40, "MULTIFACET_DATABASE_URL": NO_DATABASE},
            "Connection refused",
        ),
        (MIGRATE, {"MULTIFACET_DATABASE_URL": NO_DATABASE}, "Connection refused"),
        (CREATE_KEY, {"MULTIFACET_DATABASE_URL": NO_DATABASE}, "MULTIFACET_DATABASE_URL"),
        (RESTORE, {"MULTIFACET_DATABASE_URL": NO_DATABASE}, "start it, or correct MULTIFACET_DATABASE_URL"),
    ],
)
@pytest.mark.slow
def test_a_process_that_cannot_start_says_why_in_one_line(
    module: tuple[str, ...], settings: dict[str, str], said: str
) -> None:
    ended = started(module, **settings)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert said in ended.stderr
    assert "a-password" not in ended.stderr


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("database_url", "sqlite:///secret.db"),
        ("redis_url", "http://:a-secret@host"),
        ("lease_seconds", "0"),
        ("redispatch_seconds", "inf"),
        ("cancel_grace_seconds", "-1"),
        ("upload_limit_bytes", "0"),
        ("log_format", "xml"),
    ],
)
def test_a_setting_is_told_with_its_variable_and_default_but_no_secret(
    setting: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"MULTIFACET_{setting.upper()}", value)
    with pytest.raises(CannotStart, match=rf"MULTIFACET_{setting.upper()}.*default: .*unset it") as told, starting():
        Settings()
    assert "secret" not in str(told.value)


def test_a_path_that_a_setting_names_is_told_with_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTIFACET_WORK_FOLDER", str(tmp_path / "work"))
    with pytest.raises(CannotStart, match=r"MULTIFACET_WORK_FOLDER=.*No such file"), starting():
        (tmp_path / "work" / "step" / "file").read_bytes()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OperationalError("q", {}, psycopg.OperationalError("no\n\troute")), r"no route.*MULTIFACET_DATABASE_URL"),
        (ProgrammingError("q", {}, psycopg.errors.UndefinedTable("x")), "multifacet migrate"),
    ],
)
def test_a_database_that_cannot_be_used_is_told(error: Exception, said: str) -> None:
    with pytest.raises(CannotStart, match=said), starting():
        raise error


def _another_model() -> None:
    class Other(BaseModel):
        number: int

    Other.model_validate({"number": "x"})


def _a_wrong_query() -> None:
    raise ProgrammingError("q", {}, psycopg.errors.SyntaxError("x"))


def _a_missing_name() -> None:
    {}["missing"]


def _a_missing_file() -> None:
    Path("/nowhere/at/all").read_bytes()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (_a_missing_name, KeyError),
        (_a_missing_file, FileNotFoundError),
        (_another_model, ValidationError),
        (_a_wrong_query, ProgrammingError),
    ],
)
def test_a_fault_of_the_program_keeps_its_traceback(
    fault: Callable[[], None], kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MULTIFACET_WORK_FOLDER", "/somewhere")
    with pytest.raises(kind), ended_in_words(), starting():
        fault()


def test_an_error_that_people_read_ends_the_process_with_its_code() -> None:
    with pytest.raises(SystemExit, match="database_url_refused: MULTIFACET_DATABASE_URL") as ended, ended_in_words():
        parse_url("postgresql://user:hunter2@host:port/x")
    assert "hunter2" not in str(ended.value)
    with pytest.raises(DatabaseUrlRefused):
        parse_url("nonsense")
