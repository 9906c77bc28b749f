"""Output layers that never hold logits for every token.

Language models: trl's fused head gives the log-probability of each labelled token, in chunks of tokens and vocabulary. Reward
models: only the last token of each document is projected. Both are put on the model's own `forward`, so that they also work
inside the wrappers of peft, DDP and FSDP, and are off unless asked for: generation is unchanged.
"""

import functools
import types
from collections.abc import Sequence
from typing import Any, cast

import torch
from peft import PeftModel
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from services.training.batches import Batch, model_inputs


def own_model(model: torch.nn.Module) -> PreTrainedModel:
    """The transformers model inside its adapters."""
    return cast("PreTrainedModel", model.get_base_model() if isinstance(model, PeftModel) else model)


def fuse_head(model: torch.nn.Module) -> None:
    """Give a language model the fused head, log-probabilities alone. Takes the place of any head put there before."""
    inner = own_model(model)
    inner.__dict__.pop("forward", None)
    add_fused_lm_head(inner, outputs=("log_probs",))


def fuse_score(model: torch.nn.Module) -> None:
    """Give a reward model a `forward(..., score_at=positions)` that projects these positions of the row alone."""
    inner: Any = own_model(model)
    inner.__dict__.pop("forward", None)
    plain = inner.forward

    @functools.wraps(type(inner).forward)
    def forward(self: Any, *arguments: Any, score_at: torch.Tensor | None = None, **options: Any) -> Any:
        if score_at is None:
            return plain(*arguments, **options)
        options.pop("labels", None)
        options.pop("return_dict", None)
        states = self.base_model(*arguments, **options).last_hidden_state[0, score_at]
        return self.score(states).squeeze(-1)

    inner.forward = types.MethodType(forward, inner)


def token_log_probabilities(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Log-probability of each label given what stands before it in its document, float32, (N - 1,).

    Entry i belongs to token i + 1; 0 where the label is -100.
    """
    output = model(**model_inputs(batch), labels=batch["labels"], fused_lm_head=True)
    log_probabilities: torch.Tensor = output.log_probs[0]
    return log_probabilities


def end_scores(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """The score of each document, read at its last token, float32."""
    ends = batch["cu_seq_lens_q"][1:].long() - 1
    scores: torch.Tensor = model(**model_inputs(batch), score_at=ends)
    return scores.float()


def by_document(values: torch.Tensor, lengths: Sequence[int]) -> tuple[torch.Tensor, ...]:
    """Split what `token_log_probabilities` gave into documents: the entries of a document's second to last token."""
    parts = torch.split(torch.cat([values.new_zeros(1), values]), list(lengths))
    return tuple(part[1:] for part in parts)
