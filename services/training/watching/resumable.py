"""Callbacks whose memory travels in the checkpoint, inside `trainer_state.json`."""

from abc import ABC, abstractmethod
from typing import Any

from transformers import TrainerCallback, TrainerState
from transformers.trainer_callback import ExportableState


class ResumableCallback(TrainerCallback, ExportableState, ABC):
    """A callback with `memory()`, which it gets back through `recall` when training goes on from a checkpoint.

    The Trainer would restore such callbacks by building new ones from JSON; ours hold open files and functions, so they stay
    and take only their memory (the Trainer's `restore_callback_states_from_checkpoint` stays off).
    """

    @abstractmethod
    def memory(self) -> dict[str, Any]:
        """Plain JSON values."""

    @abstractmethod
    def recall(self, memory: dict[str, Any]) -> None:
        """Take up what `memory` gave."""

    def state(self) -> dict[str, Any]:
        """What the Trainer writes into a checkpoint."""
        return {"args": {}, "attributes": self.memory()}

    def recall_from(self, state: TrainerState) -> None:
        """To be called when training begins. A checkpoint without this callback's memory leaves it as new."""
        saved = state.stateful_callbacks
        assert isinstance(saved, dict)
        # The Trainer looks the name up when it saves, and fails where the checkpoint it came from has none.
        entry = saved.setdefault(type(self).__name__, self.state())
        self.recall(entry["attributes"])
