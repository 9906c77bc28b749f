"""Secrets in files, as container platforms mount them: read by the name of a variable, refused where everybody knows them.

A file's content stands before the variable's own value, and blank ends are no part of it: an empty file counts as not set.
Libraries of others read their keys from the environment alone; `adopt_secret_files` puts those there.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, unquote

from shared.domain.errors import MultifacetError

FILE_SUFFIX = "_FILE"

LIBRARY_SECRETS = ("HF_TOKEN", "WANDB_API_KEY")
"""Variables in which libraries that workers use look for a key."""

KNOWN_DEFAULTS = frozenset(
    {
        "admin",
        "changeme",
        "change-me",
        "minio",
        "minioadmin",
        "minio123",
        "multifacet",
        "multifacet-launcher",
        "multifacet-secret",
        "password",
        "postgres",
        "redis",
        "root",
        "secret",
    }
)
"""Values that stood in examples and first installations, ours and others'."""


class SecretUnreadable(MultifacetError):
    """A file that shall hold a secret cannot be read."""

    code = "secret_unreadable"


def read_secret(path: Path) -> str:
    """What a file holds, without blank ends. Raises ValueError that says why it cannot be used, never what it holds."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}); set a text file that this process may read"
        ) from error
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text; set a file that holds the secret alone") from None


def refuse_known(secret: str) -> None:
    """Raise ValueError for a value that everybody knows; it is not repeated."""
    if secret.lower() in KNOWN_DEFAULTS:
        raise ValueError("it is a value that everybody knows; choose a random one (`make secrets` makes files of them)")


def with_password(url: str, password: str, *, user_needed: bool) -> str:
    """`url` with the password that was told apart from it; unchanged without one.

    Raises ValueError where the URL holds a password already, names nobody to log in where that is needed, or holds one that
    everybody knows.
    """
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    login, at, place = authority.rpartition("@")
    user, colon, held = login.partition(":")
    if held:
        refuse_known(unquote(held))
    if not password:
        return url
    if colon:
        raise ValueError("it holds a password, and another one is set apart from it; leave one of them out")
    if user_needed and not (at and user):
        raise ValueError("it names no user for the password that is set apart from it; write user@host")
    return f"{scheme}://{user}:{quote(password, safe='')}@{place}{slash}{path}"


def environment_secret(name: str) -> str:
    """The secret of an environment variable: of the file that `<name>_FILE` names, else its value; empty where neither holds one.

    Raises SecretUnreadable.
    """
    file = os.environ.get(name + FILE_SUFFIX, "").strip()
    if not file:
        return os.environ.get(name, "").strip()
    try:
        return read_secret(Path(file)) or os.environ.get(name, "").strip()
    except ValueError as error:
        raise SecretUnreadable(f"{name}{FILE_SUFFIX} cannot be used: {error}") from error


def adopt_secret_files(names: Sequence[str] = LIBRARY_SECRETS) -> None:
    """Put secrets of files into this process's environment, where libraries and child processes look for them.

    Raises SecretUnreadable.
    """
    for name in names:
        if secret := environment_secret(name):
            os.environ[name] = secret
