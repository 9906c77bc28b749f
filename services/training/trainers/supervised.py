"""Supervised fine-tuning: negative log-likelihood of the response tokens, every token of the global batch counting the same."""

from typing import Any

import torch
from trl.trainer.sft_trainer import SFTTrainer

from services.training.batches import Batch
from services.training.fused_heads import fuse_head, token_log_probabilities
from services.training.losses import sft_loss
from services.training.trainers.unpadded import LossSum, UnpaddedTraining


class SupervisedTrainer(UnpaddedTraining, SFTTrainer):  # type: ignore[misc]
    """trl's SFT trainer on packed rows without padding."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # trl's own head also computes entropies, which nobody reads here.
        fuse_head(self.own_model())

    def loss_sum(self, model: torch.nn.Module, batch: Batch) -> LossSum:
        """Losses of the response tokens; other tokens have log-probability 0."""
        return LossSum(sft_loss(token_log_probabilities(model, batch)).sum())
