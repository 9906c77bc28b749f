"""`make secrets`: random files, never overwritten, that only their owner's folder leads to, and that the settings accept."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
from pydantic import SecretStr

from shared.metadata.repositories.api_keys import KEY_PREFIX
from shared.settings import Settings
from tests.support.compose_file import ROOT, compose_file

SCRIPT = ROOT / "infra" / "compose" / "secrets.sh"
OF_OTHERS = {"openai_api_key", "perspective_key", "hf_token", "wandb_api_key"}


def make(folder: Path) -> dict[str, str]:
    subprocess.run(["bash", SCRIPT, folder], check=True, capture_output=True, timeout=60)
    return {path.name: path.read_text().strip() for path in folder.iterdir()}


def test_every_secret_of_the_compose_file_is_made_and_no_other(tmp_path: Path) -> None:
    assert set(make(tmp_path / "secrets")) == set(compose_file()["secrets"])
    for name, entry in compose_file({"SECRETS_FOLDER": "/folder"})["secrets"].items():
        assert entry == {"file": f"/folder/{name}"}


def test_ours_are_random_and_long_and_those_of_others_are_empty(tmp_path: Path) -> None:
    first, second = make(tmp_path / "first"), make(tmp_path / "second")
    for name, value in first.items():
        if name in OF_OTHERS:
            assert value == ""
        else:
            assert value != second[name]
            assert len(value) >= (20 if name == "s3_access_key" else 32)
    assert len(set(first.values())) == len(first) - len(OF_OTHERS) + 1
    assert first["bootstrap_key"].startswith(KEY_PREFIX)


def test_what_is_there_stays(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    before = make(folder)
    (folder / "openai_api_key").chmod(0o600)
    (folder / "openai_api_key").write_text("sk-of-the-operator")
    (folder / "redis_password").unlink()
    after = make(folder)
    assert after["openai_api_key"] == "sk-of-the-operator"
    assert after["redis_password"] != before["redis_password"]
    kept = set(before) - {"openai_api_key", "redis_password"}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}


def test_only_the_owner_gets_to_them_and_containers_of_other_users_can_read_them(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    before = os.umask(0)
    try:
        make(folder)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o444}


def test_the_settings_take_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path / "secrets")
    for field in ("database_password", "redis_password", "s3_access_key", "s3_secret_key", "launcher_token"):
        monkeypatch.setenv(f"MULTIFACET_{field.upper()}_FILE", str(tmp_path / "secrets" / field))
    settings = Settings(database_url="postgresql://multifacet@postgres/multifacet")
    assert made["database_password"] in settings.database_url
    assert settings.launcher_token == SecretStr(made["launcher_token"])


def test_they_get_neither_into_git_nor_into_an_image() -> None:
    ignored = subprocess.run(
        ["git", "check-ignore", "infra/compose/secrets/database_password"], cwd=ROOT, check=False, capture_output=True
    )
    assert ignored.returncode == 0
    assert "infra/compose/secrets" in (ROOT / ".dockerignore").read_text().splitlines()
