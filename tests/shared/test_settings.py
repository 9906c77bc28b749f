"""Settings that cannot work are refused where they are read."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy import make_url

from shared.settings import Settings
from shared.settings.secrets import LIBRARY_SECRETS, SecretUnreadable, adopt_secret_files, environment_secret


@pytest.mark.parametrize("endpoint", ["http://minio:9000", "https://minio", "minio:9000/bucket"])
def test_an_s3_endpoint_is_host_and_port_alone(endpoint: str) -> None:
    with pytest.raises(ValidationError, match="give host:port alone"):
        Settings(s3_endpoint=endpoint)
    assert Settings(s3_endpoint="minio:9000").s3_endpoint == "minio:9000"


FIELDS = [
    "database_password",
    "redis_password",
    "s3_access_key",
    "s3_secret_key",
    "perspective_key",
    "launcher_token",
    "metrics_token",
]


def plain(value: str | SecretStr) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


@pytest.mark.parametrize("field", FIELDS)
def test_a_secret_is_read_from_its_file_which_stands_before_the_variable(
    field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / field
    file.write_text("  of-the-file\n")
    monkeypatch.setenv(f"MULTIFACET_{field.upper()}_FILE", str(file))
    monkeypatch.setenv(f"MULTIFACET_{field.upper()}", "of-the-variable")
    assert plain(getattr(Settings(), field)) == "of-the-file"
    file.write_text("\n")
    assert plain(getattr(Settings(), field)) == "of-the-variable"
    monkeypatch.delenv(f"MULTIFACET_{field.upper()}")
    assert plain(getattr(Settings(), field)) == ""


@pytest.mark.parametrize("field", FIELDS)
def test_a_file_of_a_secret_that_cannot_be_read_is_refused(field: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="cannot be read"):
        Settings.model_validate({f"{field}_file": tmp_path / "nothing"})


@pytest.mark.parametrize("field", sorted(set(FIELDS) - {"s3_access_key"}))
@pytest.mark.parametrize("known", ["multifacet-secret", "multifacet", "minioadmin", "ChangeMe"])
def test_a_secret_that_everybody_knows_is_refused_and_not_repeated_from_a_file(
    field: str, known: str, tmp_path: Path
) -> None:
    with pytest.raises(ValidationError, match="everybody knows"):
        Settings.model_validate({field: known})
    (tmp_path / "secret").write_text(known)
    with pytest.raises(ValidationError, match="everybody knows") as refused:
        Settings.model_validate({f"{field}_file": tmp_path / "secret"})
    assert known not in "".join(fault["msg"] for fault in refused.value.errors())


@pytest.mark.parametrize("url", ["postgresql+psycopg://multifacet:multifacet@db/x", "postgresql://u:change%2Dme@db/x"])
def test_a_password_that_everybody_knows_is_refused_in_an_address_too(url: str) -> None:
    with pytest.raises(ValidationError, match="everybody knows"):
        Settings(database_url=url)


def test_passwords_set_apart_get_into_the_addresses_whatever_they_hold() -> None:
    password = SecretStr("p@ss/w:rd#1%?")
    found = Settings(
        database_url="postgresql+psycopg://somebody@db:5433/facets?sslmode=require",
        database_password=password,
        redis_url="redis://broker:6380/2",
        redis_password=password,
    )
    database, broker = make_url(found.database_url), urlsplit(found.redis_url)
    assert (database.username, database.password, database.host, database.port) == (
        "somebody",
        password.get_secret_value(),
        "db",
        5433,
    )
    assert (database.database, dict(database.query)) == ("facets", {"sslmode": "require"})
    assert (unquote(broker.password or ""), broker.hostname, broker.port, broker.path) == (
        password.get_secret_value(),
        "broker",
        6380,
        "/2",
    )


def test_two_passwords_or_one_for_nobody_are_refused() -> None:
    password = SecretStr("a-password-of-its-own")
    with pytest.raises(ValidationError, match="leave one of them out"):
        Settings(database_url="postgresql://somebody:another@db/x", database_password=password)
    with pytest.raises(ValidationError, match="names no user"):
        Settings(database_url="postgresql://db/x", database_password=password)


def test_addresses_without_a_password_set_apart_stay_as_they_are() -> None:
    for url in ("postgresql:///x?host=/run/socket", "postgresql://u@db,other/x", "postgresql://u:p-of-its-own@db/x"):
        assert Settings(database_url=url).database_url == url


def test_a_key_of_a_provider_may_lie_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    monkeypatch.delenv("SOME_KEY_FILE", raising=False)
    assert environment_secret("SOME_KEY") == ""
    monkeypatch.setenv("SOME_KEY", "of-the-variable")
    assert environment_secret("SOME_KEY") == "of-the-variable"
    (tmp_path / "key").write_text("of-the-file\n")
    monkeypatch.setenv("SOME_KEY_FILE", str(tmp_path / "key"))
    assert environment_secret("SOME_KEY") == "of-the-file"
    monkeypatch.setenv("SOME_KEY_FILE", str(tmp_path / "nothing"))
    with pytest.raises(SecretUnreadable, match="SOME_KEY_FILE cannot be used"):
        environment_secret("SOME_KEY")


def test_libraries_find_their_keys_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIBRARY_SECRETS:
        (tmp_path / name).write_text("")
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "HF_TOKEN").write_text("hf_of-the-file\n")
    monkeypatch.setenv("HF_TOKEN", "replaced")
    adopt_secret_files()
    assert os.environ["HF_TOKEN"] == "hf_of-the-file"
    assert "WANDB_API_KEY" not in os.environ


def test_every_file_of_a_secret_has_its_setting() -> None:
    files = [name for name in Settings.model_fields if name.endswith("_file")]
    secrets = {name.removesuffix("_file") for name in files} & set(Settings.model_fields)
    assert secrets == {*FIELDS, "bootstrap_key"}
