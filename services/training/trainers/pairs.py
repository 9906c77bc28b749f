"""Pairs for language models: direct preference optimisation and odds ratio preference optimisation.

Each pair of the global batch counts the same, whatever micro-batch it came in.
"""

from typing import Any

import torch
from transformers import PretrainedConfig
from trl.trainer.dpo_trainer import DPOTrainer

from services.training.batches import Batch
from services.training.fused_heads import by_document, fuse_head, token_log_probabilities
from services.training.losses import dpo_loss, orpo_loss
from services.training.trainers.unpadded import LossSum, UnpaddedTraining


class NoReference(torch.nn.Module):
    """Stands where trl wants a reference model, and has no weights: references are computed before, or not needed.

    Without it trl would load a second model, hash the first one, or copy adapters.
    """

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.config = config


def pair_metrics(chosen: torch.Tensor, rejected: torch.Tensor, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    """Sums over the pairs of both rewards, their difference, and how often the chosen one is higher."""
    return {
        "rewards/chosen": (weights * chosen).sum(),
        "rewards/rejected": (weights * rejected).sum(),
        "rewards/margins": (weights * (chosen - rejected)).sum(),
        "rewards/accuracies": (weights * (chosen > rejected)).sum(),
    }


class PairTrainer(UnpaddedTraining, DPOTrainer):  # type: ignore[misc]
    """trl's DPO trainer without padding and without a reference model. `beta` is in its arguments."""

    def __init__(self, *, model: Any, **options: Any) -> None:
        super().__init__(model=model, ref_model=NoReference(model.config), **options)
        self.ref_model = None
        # trl waits for reference columns where it computed them itself; ours are there before.
        self.precompute_ref_logps = True
        fuse_head(self.own_model())

    def responses(self, model: torch.nn.Module, batch: Batch) -> tuple[tuple[torch.Tensor, ...], list[torch.Tensor]]:
        """Log-probabilities of the labelled tokens of each document, and of its response alone."""
        documents = by_document(token_log_probabilities(model, batch), batch["document_lengths"])
        responses = [part[-length:] for part, length in zip(documents, batch["response_lengths"], strict=True)]
        return documents, responses


class PreferenceTrainer(PairTrainer):
    """DPO: rows carry `reference_chosen` and `reference_rejected`, computed once before."""

    def loss_sum(self, model: torch.nn.Module, batch: Batch) -> LossSum:
        """Rewards are beta times how far the policy moved from the reference (Rafailov et al. 2023, section 5)."""
        _, responses = self.responses(model, batch)
        sums = torch.stack([response.sum() for response in responses])
        chosen, rejected = sums[0::2], sums[1::2]
        weights = batch["weights"]
        losses = dpo_loss(chosen, rejected, batch["reference_chosen"], batch["reference_rejected"], self.beta)
        metrics = pair_metrics(
            self.beta * (chosen - batch["reference_chosen"]),
            self.beta * (rejected - batch["reference_rejected"]),
            weights,
        )
        return LossSum((weights * losses).sum(), metrics)


class OddsRatioTrainer(PairTrainer):
    """ORPO: likelihood of prompt and chosen response, and the odds ratio of the two responses; `beta` is the paper's lambda."""

    def loss_sum(self, model: torch.nn.Module, batch: Batch) -> LossSum:
        """Rewards are lambda times the mean log-probability of a response, as trl's ORPO reports them."""
        documents, responses = self.responses(model, batch)
        means = torch.stack([response.mean() for response in responses])
        likelihood = torch.stack([-document.mean() for document in documents[0::2]])
        chosen, rejected = means[0::2], means[1::2]
        weights = batch["weights"]
        losses = orpo_loss(likelihood, chosen, rejected, self.beta)
        metrics = pair_metrics(self.beta * chosen, self.beta * rejected, weights)
        return LossSum((weights * losses).sum(), metrics)
