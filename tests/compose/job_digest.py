"""Run inside a container of the system: `python - JOB`. Reads every artifact of a job from the store and prints, as JSON, which
bytes do not match their sha256, and a digest of every row of every part."""

import asyncio
import json
import re
import sys
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import sqlalchemy as sa

from shared.artifacts import open_store
from shared.artifacts.tables import ROW_SCHEMA_VERSION, iterate_rows, row_to_record
from shared.metadata.engine import create_engine
from shared.settings import get_settings

MODEL_ID = re.compile(rb"\bmodel_[0-9a-z]{26}\b")
"""Each job's training registers a model of its own, and rows name the model that answered."""


async def main(job: str) -> None:
    settings = get_settings()
    store = open_store(settings)
    engine = create_engine(settings.database_url, pool_size=1)
    async with engine.connect() as connection:
        query = sa.text("SELECT stage, name, key, sha256, schema_version FROM artifact WHERE job_id = :job")
        artifacts = (await connection.execute(query, {"job": job})).all()
    await engine.dispose()
    wrong, parts = [], {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "object"
        for stage, name, key, digest, version in artifacts:
            await store.get_file(key, path)
            if sha256(path.read_bytes()).hexdigest() != digest:
                wrong.append(f"{stage}/{name}")
            if name.startswith("part-") and version == ROW_SCHEMA_VERSION:
                parts[f"{stage}/{name}"] = {
                    row.row_id: sha256(
                        MODEL_ID.sub(
                            b"model", orjson.dumps(row_to_record(row), option=orjson.OPT_SORT_KEYS, default=str)
                        )
                    ).hexdigest()
                    for row in iterate_rows(path)
                }
    print(json.dumps({"artifacts": len(artifacts), "wrong": wrong, "parts": parts}))


asyncio.run(main(sys.argv[1]))
