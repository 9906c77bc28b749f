"""A resource log sees processes come and go, and what it saw can be read and drawn."""

import csv
import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from benchmarks.resource_plot import plot
from benchmarks.resources import ResourceLog, folder_bytes


def test_processes_their_children_and_sizes_are_sampled(tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / "below").mkdir(parents=True)
    (store / "below" / "object").write_bytes(b"x" * 3 * 2**20)
    code = "import sys, subprocess; subprocess.run([sys.executable, '-c', 'import sys; print(1, flush=True); sys.stdin.read()'])"
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdout.readline()  # the child is up
    roots = {"self": os.getpid(), "other": parent.pid}
    with ResourceLog(lambda: roots, lambda: 7, lambda: 2 * 2**20, store, seconds=60) as log:
        pass
    parent.communicate(b"")

    first, last = log.samples
    assert {"self", "other", "other steps"} <= set(first.memory)
    assert all(megabytes > 0 for megabytes in first.memory.values())
    assert (last.rows, last.database_mb, last.store_mb) == (7, 2.0, 3.0)
    assert folder_bytes(store) == 3 * 2**20
    log.write_csv(tmp_path / "log.csv")
    with (tmp_path / "log.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["database_mb"] for line in lines] == ["2.00", "2.00"]
    assert float(lines[0]["other steps_mb"]) > 0
    plot(log.samples, tmp_path / "log.png")
    with Image.open(tmp_path / "log.png") as image:
        colours = image.convert("RGB").getcolors(maxcolors=100_000)
    assert colours is not None
    assert len(colours) > 3, "axes and lines were drawn"
