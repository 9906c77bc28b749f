"""Reward models: the chosen response's score shall exceed the rejected one's."""

from typing import Any

import torch
from trl.trainer.reward_trainer import RewardTrainer

from services.training.batches import Batch
from services.training.fused_heads import end_scores, fuse_score
from services.training.losses import reward_loss
from services.training.trainers.pairs import pair_metrics
from services.training.trainers.unpadded import LossSum, UnpaddedTraining


class ScoreTrainer(UnpaddedTraining, RewardTrainer):  # type: ignore[misc]
    """trl's reward trainer without padding: a score is read at the last token of each document."""

    has_language_head = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        fuse_score(self.own_model())

    def loss_sum(self, model: torch.nn.Module, batch: Batch) -> LossSum:
        """Rewards are the scores themselves."""
        scores = end_scores(model, batch)
        chosen, rejected = scores[0::2], scores[1::2]
        weights = batch["weights"]
        return LossSum((weights * reward_loss(chosen, rejected)).sum(), pair_metrics(chosen, rejected, weights))
