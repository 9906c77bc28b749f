"""A whole step for tests: it does what the job's name says. Runs in child processes, so it imports little."""

import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

from shared.domain.errors import InputRefused, StepDeferred, StepFailed, StepInterrupted
from shared.domain.ledger import Ledger
from shared.stages.protocol import OutputObject, WholeContext, WholeResult


def step(context: WholeContext) -> WholeResult:
    name = context.spec.name
    if name.endswith(" at 120"):
        context.starts_from("step 120")
        name = name.removesuffix(" at 120")
    if name == "import":
        import a_package_that_nobody_has  # type: ignore[import-not-found]  # noqa: F401
    if name == "emit":
        for number in range(3000):
            data: dict[str, Any] = {"stage": context.stage, "step": number, "loss": float("nan")}
            context.emit("train.metrics", data)
    if name == "emit a state":
        context.emit("job.state", {"state": "succeeded"})
    if "stop" in name:
        return _stop(context, name)
    if name == "refuse":
        raise InputRefused("not like this", "/sources/0")
    if name == "fail":
        raise StepFailed("nothing_left", "no row is left")
    if name == "defer":
        raise StepDeferred("later", 12.5)
    if name == "raise":
        raise KeyError("a private text")
    if name == "full":
        with Path("/dev/full").open("wb", buffering=0) as sink:
            sink.write(b"x")
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


def _stop(context: WholeContext, name: str) -> WholeResult:
    """Work until SIGTERM comes, with a helper process in the same group, then do what the name says."""
    helper = os.fork()
    if helper == 0:
        time.sleep(600)
    told = []

    def note(number: int, _frame: FrameType | None) -> None:
        told.append(number)

    if name == "ignore the stop":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif name != "die of the stop":
        signal.signal(signal.SIGTERM, note)
    context.progress(1, None, "working")
    (context.output_folder / "pid").write_text(str(os.getpid()))
    while not told:
        time.sleep(0.01)
    if name == "fail in the stop":
        raise RuntimeError("a helper went away")
    if name == "finish when stopped":
        return WholeResult((), Ledger(), {"finished": True})
    alive = os.waitpid(helper, os.WNOHANG) == (0, 0)
    (context.output_folder / "put away").write_text("helper alive" if alive else "helper gone")
    context.emit("note", {"stage": context.stage, "message": "put away"})
    raise StepInterrupted("stopped at step 7")
