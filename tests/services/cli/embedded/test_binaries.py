import os
import tempfile
from pathlib import Path

import pytest

from services.cli.embedded import binaries
from services.cli.embedded.postgres import EmbeddedPostgres


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
def test_root_runs_a_copy_where_the_other_user_cannot_reach_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_reachable_by_others", lambda _program: False)
    with tempfile.TemporaryDirectory(prefix="mf-test-") as name:
        root = Path(name)
        root.chmod(0o755)
        server = EmbeddedPostgres(root / "postgres", root / "postgres.log", {"fsync": "off"})
        server.start()
        try:
            assert server.alive()
            assert len(list(root.glob("postgres-*"))) == 1
            assert binaries.postgres_programs(root).is_relative_to(root)
        finally:
            server.stop()
        assert not server.alive()
