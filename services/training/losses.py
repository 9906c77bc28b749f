"""The four losses as formulas on log-probabilities and scores, free of models and batches.

Every function gives one value per token or per pair; averaging over the global batch is the trainers' business.
"""

import math

import torch
from torch.nn import functional

# A mean log-probability of exactly 0 would have infinite odds, and no gradient.
LARGEST_LOG_PROBABILITY = -1e-7


def sft_loss(log_probabilities: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of each response token, nats."""
    return -log_probabilities


def dpo_loss(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    reference_chosen: torch.Tensor,
    reference_rejected: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290, equation 7), per pair.

    All four are log-probabilities of whole responses (sums over their tokens, nats) under the policy and the reference.
    """
    return -functional.logsigmoid(beta * ((chosen - reference_chosen) - (rejected - reference_rejected)))


def log_odds(mean_log_probability: torch.Tensor) -> torch.Tensor:
    """log(p / (1 - p)) of a response, where log p is the mean over its tokens (Hong et al. 2024, equations 3 and 4).

    log(1 - p) is taken from expm1 or log1p, whichever keeps digits (Maechler 2012, "Accurately computing log(1 - exp(-|a|))").
    """
    log_p = mean_log_probability.clamp(max=LARGEST_LOG_PROBABILITY)
    near_one = log_p > -math.log(2)
    # The branch that is not taken gets a harmless value, so that its gradient is no NaN.
    log_one_minus_p = torch.where(
        near_one,
        torch.log(-torch.expm1(torch.where(near_one, log_p, -1.0))),
        torch.log1p(-torch.exp(torch.where(near_one, -1.0, log_p))),
    )
    return log_p - log_one_minus_p


def orpo_loss(
    negative_log_likelihood: torch.Tensor, chosen: torch.Tensor, rejected: torch.Tensor, weight: float
) -> torch.Tensor:
    """Odds ratio preference optimisation (Hong et al. 2024, arXiv 2403.07691, equations 5 to 7), per pair.

    `negative_log_likelihood` is the mean over the tokens of prompt and chosen response, as in the authors' code; `chosen` and
    `rejected` are mean log-probabilities over the tokens of a response alone. `weight` is the paper's lambda.
    """
    return negative_log_likelihood - weight * functional.logsigmoid(log_odds(chosen) - log_odds(rejected))


def reward_loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of the preference under Bradley and Terry's model (Ouyang et al. 2022, arXiv 2203.02155,
    equation 1), per pair of scores."""
    return -functional.logsigmoid(chosen - rejected)
