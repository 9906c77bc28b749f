"""Time and peak memory of an audit of many rows.

    python -m benchmarks.audit_cost [rows]

The file is made up, Parquet in the `sft` layout: three system messages of each instruction, four preferences, a machine check
of its own in each row, answers of 40 to 300 words. It is written in parts before the clock starts.
"""

import argparse
import random
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shared.audit import audit_data, load_data
from shared.domain.checks import Check, canonical_sentence

_PART = 3000
_DIMENSIONS = ("style", "background_knowledge", "informativeness", "harmlessness")


def _prose(generator: random.Random, vocabulary: list[str], words: int) -> str:
    return " ".join(generator.choices(vocabulary, k=words)).capitalize() + "."


def _row(generator: random.Random, vocabulary: list[str], prompt: str) -> dict[str, Any]:
    phrase = " ".join(generator.choices(vocabulary, k=3))
    parts = [_prose(generator, vocabulary, generator.randint(5, 20)) for _ in range(generator.randint(2, 9))]
    parts.insert(generator.randrange(len(parts)), canonical_sentence(Check("must_include", {"phrases": [phrase]})))
    return {
        "preference_set": [
            {
                "dimension": dimension,
                "subdimension": f"{dimension} {generator.randrange(6)}",
                "preference": _prose(generator, vocabulary, 3),
                "description": _prose(generator, vocabulary, generator.randint(8, 25)),
            }
            for dimension in generator.sample(_DIMENSIONS, 4)
        ],
        "system": " ".join(parts),
        "prompt": prompt,
        "output": f"{_prose(generator, vocabulary, generator.randint(40, 300))} {phrase}.",
    }


def write_rows(path: Path, rows: int, seed: int = 7) -> None:
    """So many rows as Parquet, written in parts."""
    generator = random.Random(seed)
    vocabulary = [f"{generator.choice('bcdfglmnprst')}{generator.choice('aeiou')}{index:x}" for index in range(20_000)]
    writer: pq.ParquetWriter | None = None
    prompt = ""
    for start in range(0, rows, _PART):
        made = []
        for number in range(start, min(start + _PART, rows)):
            if number % 3 == 0:
                prompt = f"{_prose(generator, vocabulary, generator.randint(8, 40))} {number:x}"
            made.append(_row(generator, vocabulary, prompt))
        table = pa.Table.from_pylist(made)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit_cost", description=__doc__)
    parser.add_argument("rows", type=int, nargs="?", default=50_000)
    rows = parser.parse_args().rows
    with TemporaryDirectory() as folder:
        path = Path(folder) / "train.parquet"
        write_rows(path, rows)
        before = _peak()
        start, used = time.perf_counter(), time.process_time()
        data = load_data(path)
        loaded = time.perf_counter() - start
        audit = audit_data(data)
        seconds, processor = time.perf_counter() - start, time.process_time() - used
        print(
            f"rows                       {rows:,}, {path.stat().st_size / 1e6:.0f} MB of Parquet, {audit.rows:,} kept"
        )
    print(f"seconds                    {seconds:.1f} ({loaded:.1f} of it reading), {processor:.1f} s of CPU")
    print(f"peak memory                {_peak():.0f} MB (before the audit {before:.0f} MB)")
    print(f"findings                   {sum(1 for _ in audit.findings())}")


if __name__ == "__main__":
    main()
