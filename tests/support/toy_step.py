"""A whole step for tests: it does what the job's name says. Runs in child processes, so it imports little."""

import os
import signal
import time
from pathlib import Path

from shared.domain.errors import InputRefused, StepDeferred, StepFailed
from shared.domain.ledger import Ledger
from shared.stages.protocol import OutputObject, WholeContext, WholeResult


def step(context: WholeContext) -> WholeResult:
    name = context.spec.name
    if name == "refuse":
        raise InputRefused("not like this", "/sources/0")
    if name == "fail":
        raise StepFailed("nothing_left", "no row is left")
    if name == "defer":
        raise StepDeferred("later", 12.5)
    if name == "raise":
        raise KeyError("a private text")
    if name == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "exit":
        os._exit(3)
    if name == "unbalanced":
        return WholeResult((), Ledger(rows_in=2, rows_out=1))
    if name == "missing":
        return WholeResult((OutputObject("a", context.output_folder / "a", "text/plain"),), Ledger())
    if name == "outside":
        return WholeResult((OutputObject("a", Path(__file__), "text/plain"),), Ledger())
    if name == "hang":
        marker = context.output_folder / "grandchild"
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            marker.write_text(str(os.getpid()))
            time.sleep(600)
        context.progress(1, 2, "hanging")
        time.sleep(600)
    print("noise", flush=True)
    context.progress(1, 2, "half")
    text = ";".join(f"{i.stage}/{i.name}={i.path.read_text()}/{i.metadata.get('name')}" for i in context.inputs)
    (context.output_folder / "sub").mkdir()
    path = context.output_folder / "sub" / "out.txt"
    path.write_text(text + f"|{context.facts['x']}|{sorted(context.stage_ledgers)}")
    card = context.output_folder / "card"
    card.write_text("card")
    outputs = (
        OutputObject("sub/out.txt", path, "text/plain", rows=1, metadata={"m": 1}),
        OutputObject("README.md", card, "text/markdown", kind="card", job_level=True),
    )
    return WholeResult(outputs, Ledger(rows_in=1, rows_out=1), {"note": "done"})
