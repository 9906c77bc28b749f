"""Stop in good order: SIGTERM asks for a checkpoint after the step that runs, and an end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from services.training.watching.agreement import any_process


class StopRequest:
    """Whether this process was asked to stop. Set by SIGTERM inside `on_sigterm`, or by `ask`."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self) -> None:
        self.asked = True

    @contextmanager
    def on_sigterm(self) -> Iterator[None]:
        """SIGTERM asks, instead of ending the process; a second one changes nothing. In the main thread only.

        Each training process enters it: it is enough when one of them gets the signal, see `StopOnSignal`.
        """

        def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  what a handler is given
            self.asked = True

        before = signal.signal(signal.SIGTERM, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


class StopOnSignal(TrainerCallback):
    """After the step in which any process was asked to stop: save a checkpoint, then end in all of them.

    An evaluation that would be due at that step is left out, because the grace is better spent on the checkpoint.
    `stopped` tells afterwards that the training ended before its last step.
    """

    def __init__(self, request: StopRequest) -> None:
        self.request = request
        self.stopped = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        if any_process(self.request.asked) and state.global_step < state.max_steps:
            self.stopped = True
            control.should_save = True
            control.should_evaluate = False
            control.should_training_stop = True
        return control
