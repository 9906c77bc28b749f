"""Counts the real tokens that a training has seen, over all processes, also across a resume."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState


class TokenCounter(TrainerCallback, ExportableState):
    """Tokens of all optimizer steps so far; in `trainer_state.json` of each checkpoint.

    A step's tokens count when the optimizer has stepped: a step that was cut short is computed again after a resume.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.of_this_step = 0

    def on_train_begin(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **others: Any,  # noqa: ARG002
    ) -> None:
        """Go on from what the checkpoint says."""
        # A list when it is given and a dictionary once it is kept, which its annotation does not say.
        kept: Any = state.stateful_callbacks
        if saved := kept.get(type(self).__name__):
            self.tokens = int(saved["attributes"]["tokens"])

    def on_optimizer_step(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **others: Any,  # noqa: ARG002
    ) -> None:
        """Count the step."""
        self.tokens += self.of_this_step
        self.of_this_step = 0

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"args": {}, "attributes": {"tokens": self.tokens}}
