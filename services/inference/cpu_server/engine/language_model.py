"""A model as the engine calls it: packed tokens in, scores out."""

import inspect
from collections.abc import Sequence
from typing import Any, cast

import torch

from services.inference.cpu_server.engine.adapters import AdapterChoice
from services.inference.cpu_server.engine.attention import PackedBatch, Piece


class LanguageModel:
    """A causal language model of transformers whose attention is `packed_attention`."""

    def __init__(self, model: Any, choice: AdapterChoice) -> None:
        self._model = model
        self._choice = choice
        self._can_keep = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.device: torch.device = model.device

    def scores(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        batch: PackedBatch,
        kept: Sequence[int],
        adapters: Sequence[str | None],
    ) -> torch.Tensor:
        """[kept, vocabulary], float32, on the CPU: of the tokens at the places `kept`. `adapters`: of each token."""
        self._choice.set(adapters)
        places = torch.tensor(kept, device=self.device)
        options = {"logits_to_keep": places} if self._can_keep else {}
        output = self._model(
            input_ids=torch.tensor([tokens], device=self.device),
            position_ids=torch.tensor([positions], device=self.device),
            use_cache=False,
            packed_batch=batch,
            **options,
        )
        logits = output.logits[0]
        if not self._can_keep:
            logits = logits[places]
        return cast("torch.Tensor", logits.to("cpu", torch.float32))


class RewardModel:
    """A sequence classifier of transformers with one label, whose attention is `packed_attention`."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.device: torch.device = model.device

    def scores(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        """Each sequence's score: the head's, at its last token. Sequences lie one behind the other, so that there is no padding,
        and no padding token that a sequence could end with by itself."""
        tokens: list[int] = []
        positions: list[int] = []
        pieces, last = [], []
        for place, sequence in enumerate(sequences):
            pieces.append(Piece(place, len(tokens), len(sequence), 0))
            tokens += sequence
            positions += range(len(sequence))
            last.append(len(tokens) - 1)
        states = self._model.base_model(
            input_ids=torch.tensor([tokens], device=self.device),
            position_ids=torch.tensor([positions], device=self.device),
            use_cache=False,
            packed_batch=PackedBatch(None, pieces=pieces, device=self.device),
        ).last_hidden_state[0]
        scores = self._model.score(states[torch.tensor(last, device=self.device)])
        return [float(score) for score in scores[:, 0].float().tolist()]
