"""What keeps a process from starting, told to the operator in one line: what was seen, why it is wrong, what to set.

Only what lies outside the program is told so: settings, the database, paths that a setting names. Any other error is a fault
of the program and keeps its traceback.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr, ValidationError

from shared.domain.errors import MultifacetError
from shared.settings import ENVIRONMENT_PREFIX, Settings

_SECRET_PARTS = ("key", "secret", "token", "password", "url")
"""In the name of a setting whose value is not shown: urls may hold a password."""

_WITHOUT_SCHEMA = frozenset({"UndefinedTable", "UndefinedColumn"})


class CannotStart(MultifacetError):
    """Something that the operator set, or that must run beside this process, cannot be used."""

    code = "cannot_start"


@contextmanager
def starting() -> Iterator[None]:
    """Raise CannotStart for what the operator can mend. Put it around what is done before the work, not around the work."""
    try:
        yield
    except Exception as error:
        told = _told(error)
        if told is None:
            raise
        raise CannotStart(told) from error


@contextmanager
def ended_in_words() -> Iterator[None]:
    """End the process with status 1 and one line on standard error for an error that a person is meant to read."""
    try:
        yield
    except MultifacetError as error:
        sys.exit(f"{error.code}: {error}")


def _told(error: Exception) -> str | None:
    if isinstance(error, ValidationError):
        return _settings_fault(error) if error.title == Settings.__name__ else None
    if isinstance(error, OSError):
        return _path_fault(error)
    return _database_fault(error)


def _settings_fault(error: ValidationError) -> str:
    faults = []
    for fault in error.errors(include_url=False):
        name = str(fault["loc"][0]).lower()
        variable = ENVIRONMENT_PREFIX + name.upper()
        hidden = any(part in name for part in _SECRET_PARTS) and not name.endswith("_file")
        shown = variable if hidden else f"{variable}={fault['input']!r}"
        text = fault["msg"].removeprefix("Value error, ")
        default = Settings.model_fields[name].default
        default = "" if isinstance(default, SecretStr) else f" (default: {default})"
        faults.append(f"{shown} cannot be used: {text[:1].lower()}{text[1:]}{default}")
    return "; ".join(faults) + "; correct this or unset it"


def _path_fault(error: OSError) -> str | None:
    """For a path at or below the one that an environment variable of ours names."""
    if not isinstance(error.filename, str):
        return None
    path = Path(error.filename).absolute()
    for variable, value in os.environ.items():
        if variable.startswith(ENVIRONMENT_PREFIX) and value and path.is_relative_to(Path(value).absolute()):
            return f"{variable}={value} cannot be used: {error.filename}: {error.strerror}; set a path that can be used"
    return None


def _database_fault(error: Exception) -> str | None:
    # A process without a database needs none of it.
    import psycopg
    from sqlalchemy.exc import OperationalError, ProgrammingError

    variable = f"{ENVIRONMENT_PREFIX}DATABASE_URL"
    if isinstance(error, OperationalError | psycopg.OperationalError):
        said = " ".join(str(error.orig if isinstance(error, OperationalError) else error).split())
        return f"the database cannot be used ({said}); start it, or correct {variable}"
    if isinstance(error, ProgrammingError) and type(error.orig).__name__ in _WITHOUT_SCHEMA:
        return f"the database that {variable} names has no tables of this version; run `multifacet migrate` first"
    return None
