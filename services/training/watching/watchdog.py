"""Stop a training that wastes its time: a loss that is no number or runs away, margins or gradients that stay at zero."""

import math
from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments

from services.training.watching.resumable import ResumableCallback
from shared.domain.errors import StepFailed

SMOOTHING = 0.9
"""Share of the past in the smoothed loss (exponential mean, corrected for its start at zero as in Adam)."""

WARM_UP_ROWS = 20
"""Logged rows before divergence is looked for: first losses say little."""

DIVERGED_FACTOR = 2.0
DIVERGED_RISE = 1.0
"""A loss has run away when its smoothed value lies above DIVERGED_FACTOR times the best one and above the best one plus
DIVERGED_RISE (nats). The second keeps small losses, as of preference training, from being told by a factor alone: 0.02 and
0.2 are both fine."""

DIVERGED_ROWS = 20
"""So many logged rows in a row. A single outlier of 80 nats fades from the smoothed loss within them."""

ZERO_MARGIN = 1e-4
"""Margins of so little are no preference: with beta 0.1 the log-probabilities of a pair differ by a thousandth."""

ZERO_MARGIN_ROWS = 50
"""So many logged rows in a row after the learning rate's warm-up, in which margins are small by right."""

ZERO_GRADIENT_ROWS = 20
"""So many logged rows in a row with a gradient of exactly zero."""


class Watchdog(ResumableCallback):
    """Raises StepFailed from the log that shows it: `loss_not_finite`, `loss_diverged`, `margins_stay_zero`,
    `gradient_stays_zero`. Its memory survives a resume, so that a training cannot escape by being restarted.

    All processes log the same values, so all of them raise in the same step. Evaluations are not judged.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._mean = 0.0
        self._best = math.inf
        self._best_step = 0
        self._above = 0
        self._zero_margins = 0
        self._zero_gradients = 0

    def memory(self) -> dict[str, Any]:
        best = None if math.isinf(self._best) else self._best
        return {
            "rows": self._rows,
            "mean": self._mean,
            "best": best,
            "best_step": self._best_step,
            "above": self._above,
            "zero_margins": self._zero_margins,
            "zero_gradients": self._zero_gradients,
        }

    def recall(self, memory: dict[str, Any]) -> None:
        self._rows, self._mean, self._best_step = memory["rows"], memory["mean"], memory["best_step"]
        self._best = math.inf if memory["best"] is None else memory["best"]
        self._above, self._zero_margins = memory["above"], memory["zero_margins"]
        self._zero_gradients = memory["zero_gradients"]

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # The Trainer would put the mean of earlier losses where one is not finite: then nobody ever sees it.
        args.logging_nan_inf_filter = False
        self.recall_from(state)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        logs: dict[str, Any] = kwargs["logs"]
        if "loss" not in logs:
            return
        loss, gradient = float(logs["loss"]), logs.get("grad_norm")
        self._rows += 1
        self._look_for_numbers(state.global_step, loss, gradient)
        self._look_for_divergence(state.global_step, loss)
        if gradient is not None:
            self._look_for_gradients(state.global_step, float(gradient))
        margin = logs.get("rewards/margins")
        if margin is not None and state.global_step > args.get_warmup_steps(state.max_steps):
            self._look_for_margins(state.global_step, float(margin))

    def _look_for_numbers(self, step: int, loss: float, gradient: float | None) -> None:
        if math.isfinite(loss) and (gradient is None or math.isfinite(gradient)):
            return
        seen = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {gradient}"
        raise StepFailed(
            "loss_not_finite",
            f"{seen} at step {step}: from here on every weight is lost. Lower learning_rate, lengthen the warm-up "
            "(warmup_steps), or set precision to fp32 to see whether bf16 overflows; a base model whose weights are no "
            "numbers shows it at step 1",
        )

    def _look_for_divergence(self, step: int, loss: float) -> None:
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * loss
        smoothed = self._mean / (1 - SMOOTHING**self._rows)
        if self._rows <= WARM_UP_ROWS:
            return
        if smoothed < self._best:
            self._best, self._best_step = smoothed, step
        limit = max(DIVERGED_FACTOR * self._best, self._best + DIVERGED_RISE)
        self._above = self._above + 1 if smoothed > limit else 0
        if self._above >= DIVERGED_ROWS:
            raise StepFailed(
                "loss_diverged",
                f"the loss has run away: smoothed it is {smoothed:.3f} at step {step}, and was {self._best:.3f} at step "
                f"{self._best_step}; it has been above {limit:.3f} for {DIVERGED_ROWS} logged rows. Lower learning_rate or "
                "lengthen the warm-up; the last checkpoints are of the run that failed, so start a new training",
            )

    def _look_for_gradients(self, step: int, gradient: float) -> None:
        self._zero_gradients = self._zero_gradients + 1 if gradient == 0 else 0
        if self._zero_gradients >= ZERO_GRADIENT_ROWS:
            raise StepFailed(
                "gradient_stays_zero",
                f"the gradient has been exactly zero for {ZERO_GRADIENT_ROWS} logged rows (step {step}): nothing is "
                "learned. Check that the rows have response tokens, that lora.target_modules names layers of this model, and "
                "that the loss has not reached zero long ago (fewer epochs)",
            )

    def _look_for_margins(self, step: int, margin: float) -> None:
        self._zero_margins = self._zero_margins + 1 if abs(margin) <= ZERO_MARGIN else 0
        if self._zero_margins >= ZERO_MARGIN_ROWS:
            raise StepFailed(
                "margins_stay_zero",
                f"the margin between chosen and rejected has been within {ZERO_MARGIN:g} of zero for {ZERO_MARGIN_ROWS} "
                f"logged rows (step {step}): no preference is learned. Check that chosen and rejected differ in the rows "
                "(preview.html shows them), that learning_rate is not too small for the weights' precision (bf16 rounds "
                "away an update below a 256th of the weight; try fp32 or lora), and that the base is the model that the "
                "pairs are meant for",
            )
