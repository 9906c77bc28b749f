"""Benches: what is registered of one, and how its items are called."""

import msgspec


class BenchRegistration(msgspec.Struct, frozen=True):
    """What a stage `bench` tells of what it kept. `rows` are instructions, `items` instructions under one preference set each."""

    name: str
    rows: int
    items: int
    teacher: str | None = None
    """`provider/model` that wrote the rubrics."""


BENCH_ROWS_FILE = "bench-rows.parquet"
"""Pipeline rows of a bench, whole, as the stage `bench` keeps them."""
BENCH_FILE = "bench.jsonl"
"""The same in the released layout of the Multifaceted Bench; beside it lies `bench.parquet`."""


def item_id(row_id: str, facet_index: int) -> str:
    """How one item of a bench is called."""
    return f"{row_id}:{facet_index}"
