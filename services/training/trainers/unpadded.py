"""What the four trainers share: batches without padding, exact averages over the global batch, own metrics and counters.

It stands before one of trl's trainers in a class's bases. trl prepares models and arguments; what it does with data (tokenise,
pad), with averages (per micro-batch) and with the outside (telemetry, model cards) is done here or not at all.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, Trainer, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput

from services.training.batches import Batch
from services.training.fused_heads import own_model
from services.training.speed import model_flops
from services.training.trainers.sampling import RankBatches, RankLoader, total_counts
from services.training.trainers.tokens import TokenCounter


@dataclass(frozen=True)
class LossSum:
    """The loss of a micro-batch, added up over its items (tokens or pairs), and sums of metrics over the same items."""

    total: torch.Tensor
    metrics: dict[str, torch.Tensor] = field(default_factory=dict)


class UnpaddedTraining(ABC):
    """Mixin for a subclass of `transformers.Trainer`; the subclass says what a micro-batch loses (`loss_sum`)."""

    # `compute_loss` divides by the items of the whole step, so the Trainer must not divide again.
    loss_is_scaled_for_ga = True
    has_language_head = True

    def __init__(self, *arguments: Any, callbacks: Sequence[TrainerCallback], **options: Any) -> None:
        self.token_counter = TokenCounter()
        self._sums: dict[str, torch.Tensor] = {}
        self._items = 0
        # First, so that every other callback finds the step's tokens counted.
        super().__init__(*arguments, callbacks=[self.token_counter, *callbacks], **options)  # type: ignore[call-arg]

    def own_model(self: Any) -> PreTrainedModel:
        """The transformers model inside adapters and wrappers."""
        return own_model(self.accelerator.unwrap_model(self.model))

    @abstractmethod
    def loss_sum(self, model: torch.nn.Module, batch: Batch) -> LossSum:
        """The loss of one micro-batch. Given by each method."""

    # Data: rows come tokenised, and every step holds the same rows however many processes share them.

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset

    def _loader(self: Any, rows: Dataset, seed: int | None) -> RankLoader:
        batches = RankBatches(
            len(rows), self.args.per_device_train_batch_size, self.args.process_index, self.args.world_size, seed
        )
        return RankLoader(rows, self.data_collator, batches, pin_memory=self.args.device.type == "cuda")

    def get_train_dataloader(self: Any) -> RankLoader:
        """Micro-batches of this process, in the order of the seed."""
        loader: RankLoader = self._loader(self.train_dataset, self.args.seed)
        return loader

    def get_eval_dataloader(self: Any, eval_dataset: Dataset | None = None) -> RankLoader:
        """Micro-batches of this process for an evaluation, in the rows' order."""
        loader: RankLoader = self._loader(self.eval_dataset if eval_dataset is None else eval_dataset, None)
        return loader

    def _run_epoch(self: Any, **options: Any) -> None:
        """Nothing where training goes on from its last step: the Trainer would take one more before it looks."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        Trainer._run_epoch(self, **options)  # type: ignore[no-untyped-call]

    # Averages over all that the processes computed.

    def _over_processes(self: Any, values: list[float]) -> list[float]:
        """Sums over the processes, element by element; double precision keeps counts exact."""
        if self.args.world_size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.args.device)
        torch.distributed.all_reduce(tensor)
        summed: list[float] = tensor.tolist()
        return summed

    def _get_num_items_in_batch(self: Any, batch_samples: list[Batch], device: torch.device) -> int:  # noqa: ARG002
        """Tokens or pairs that the step's loss is averaged over; called once per step, so the tokens are counted here too."""
        totals = total_counts(batch_samples)
        items, tokens = self._over_processes([totals.get("items", 0), totals.get("tokens", 0)])
        self.token_counter.of_this_step = int(tokens)
        return int(items)

    def compute_loss(
        self: Any,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> torch.Tensor:
        """The micro-batch's share of the step's mean loss, times the processes, because their gradients are averaged."""
        if return_outputs:
            raise ValueError("these trainers give no outputs: logits are never built")
        result = self.loss_sum(model, inputs)
        self._items += inputs["counts"]["items"]
        for name, value in result.metrics.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach().float()
        items = inputs["counts"]["items"] if num_items_in_batch is None else num_items_in_batch
        processes = 1 if num_items_in_batch is None else self.args.world_size
        loss: torch.Tensor = result.total * (processes / max(items, 1))
        return loss

    def _means(self: Any) -> dict[str, float]:
        """Means of the metrics since the last call, over all processes."""
        names = sorted(self._sums)
        *sums, items = self._over_processes([*(float(self._sums[name]) for name in names), self._items])
        self._sums, self._items = {}, 0
        return {name: value / max(items, 1) for name, value in zip(names, sums, strict=True)}

    def log(self: Any, logs: dict[str, float], start_time: float | None = None) -> None:
        """Pass a row on to the callbacks, with the tokens so far; one of training steps with metrics and model FLOPs so far."""
        if "loss" in logs:
            logs |= {**self._means(), "model_flops": self.state.total_flos}
        logs["tokens"] = self.token_counter.tokens
        Trainer.log(self, logs, start_time)

    def floating_point_ops(self: Any, inputs: Batch) -> float:
        """Model FLOPs of a micro-batch; the Trainer adds them up over steps, processes and resumes as `total_flos`.

        0 for an architecture whose FLOPs are not counted.
        """
        counts = inputs["counts"]
        unwrapped = self.accelerator.unwrap_model(self.model)
        flops = model_flops(
            self.own_model().config,
            tokens=counts["tokens"],
            squares=counts["squares"],
            scored=counts["scored"],
            trains_all_weights=not isinstance(unwrapped, PeftModel),
            has_language_head=self.has_language_head,
        )
        return flops or 0.0

    # Evaluation: the exact mean over the test rows.

    def evaluate(
        self: Any,
        eval_dataset: Dataset | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Evaluate on the test rows, or on others that are prepared in the same way."""
        metrics: dict[str, float] = Trainer.evaluate(self, eval_dataset, ignore_keys, metric_key_prefix)
        return metrics

    def evaluation_loop(
        self: Any,
        dataloader: RankLoader,
        description: str,  # noqa: ARG002 (the Trainer's signature)
        prediction_loss_only: bool | None = None,  # noqa: ARG002
        ignore_keys: list[str] | None = None,  # noqa: ARG002
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Mean loss and metrics over all items of the rows, whatever the micro-batch and the number of processes."""
        model = self.model
        model.eval()
        total = 0.0
        items = 0
        sums: dict[str, float] = {}
        with torch.no_grad():
            for inputs in dataloader:
                batch = self._prepare_inputs(inputs)
                result = self.loss_sum(model, batch)
                total += float(result.total)
                items += batch["counts"]["items"]
                for name, value in result.metrics.items():
                    sums[name] = sums.get(name, 0.0) + float(value)
                self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        names = sorted(sums)
        loss, *rest, count = self._over_processes([total, *(sums[name] for name in names), items])
        metrics = {
            f"{metric_key_prefix}_{name}": value / max(count, 1)
            for name, value in zip(("loss", *names), (loss, *rest), strict=True)
        }
        no_predictions: Any = None
        return EvalLoopOutput(
            predictions=no_predictions, label_ids=None, metrics=metrics, num_samples=dataloader.batches.rows
        )

    # Nothing is sent anywhere, and the model card is written where the model is registered.

    def _send_telemetry(self) -> None:
        return

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Leave no card in the checkpoints."""
        return
