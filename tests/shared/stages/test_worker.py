"""Roles, handlers and what errors mean."""

import subprocess
import sys

import pytest
import sqlalchemy as sa

from shared.domain.errors import InputRefused, StepDeferred, StepFailed
from shared.domain.plan import StageKind
from shared.queue.lease import Lease
from shared.queue.retry_policy import EndKind
from shared.stages.child import ChildError
from shared.stages.protocol import WholeStepHandler
from shared.stages.row_runner import StepStopped
from shared.stages.step_runner import attempt_end
from shared.stages.whole_runner import ChildCrashed, ChildFailed
from shared.stages.worker import ROLES, load_handlers, main, parse_roles
from tests.shared.stages.test_row_runner import CLAIM


def test_roles_are_all_or_named_and_unknown_ones_are_refused() -> None:
    every = ("augmentation", "composition", "curation", "evaluation", "generation", "inference", "training")
    assert parse_roles("all") == ROLES == every
    assert parse_roles("generation, curation,generation") == ("generation", "curation")
    with pytest.raises(InputRefused, match="unknown roles 'cooking'; choose from all"):
        parse_roles("curation,cooking")


def test_handlers_come_from_the_services_unless_another_module_is_named() -> None:
    product = load_handlers(["curation"], {})
    assert {kind: handler.run for kind, handler in product.items() if isinstance(handler, WholeStepHandler)}[
        StageKind.CURATE
    ].startswith("services.curation.")
    toys = load_handlers(ROLES, {role: f"tests.support.toy_handlers.{role}" for role in ROLES})
    assert set(toys) == set(StageKind)
    with pytest.raises(InputRefused, match="two handlers"):
        load_handlers(["curation", "generation"], {"generation": "services.curation.handlers"})


@pytest.mark.parametrize("pair", ["curation", "cooking=a.b", "curation="])
def test_a_malformed_handler_option_ends_with_usage(pair: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--roles", "curation", "--handlers", pair])
    assert "is not ROLE=MODULE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (InputRefused("m", "/a"), EndKind.REFUSED, "input_refused"),
        (StepFailed("budget_exhausted", "m"), EndKind.REFUSED, "budget_exhausted"),
        (StepDeferred("m", 3), EndKind.DEFERRED, "deferred"),
        (ChildCrashed("signal 9"), EndKind.CRASHED, "child_crashed"),
        (ChildFailed(ChildError("failed", "c", "m", signature="s")), EndKind.FAILED, "c"),
        (ConnectionResetError(), EndKind.UNREACHABLE, "unreachable"),
        (sa.exc.OperationalError("q", {}, Exception("x")), EndKind.UNREACHABLE, "unreachable"),
        (ValueError("a private text"), EndKind.FAILED, "step_error"),
    ],
)
async def test_what_errors_mean_for_the_attempt(error: Exception, kind: EndKind, code: str) -> None:
    end = attempt_end(error, Lease(CLAIM))
    assert (end.kind, end.code) == (kind, code)
    assert "private" not in end.message + (end.signature or "")


@pytest.mark.parametrize("reason", [EndKind.CANCELLED, EndKind.PREEMPTED])
async def test_a_stop_ends_the_attempt_for_its_reason(reason: EndKind) -> None:
    lease = Lease(CLAIM)
    lease.request_stop(reason)
    assert attempt_end(StepStopped(), lease).kind is reason


def test_a_worker_with_all_roles_starts_without_the_packages_that_only_training_needs() -> None:
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'transformers', 'trl', 'datasets', 'peft')));"
        "from shared.stages.worker import ROLES, load_handlers; print(sorted(load_handlers(ROLES, {})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(sorted(StageKind)), done.stderr
