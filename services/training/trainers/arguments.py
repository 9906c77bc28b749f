"""A training's parameters as the arguments of trl's trainers.

Decisions:

* Weights in bf16 are trained in bf16, without a copy in float32 and without autocast, as in the paper's recipe with its 8-bit
  Adam; `precision: fp32` keeps and computes everything in float32.
* Nothing is saved by the calendar of the Trainer: a callback sets `control.should_save`, and the Trainer then writes
  `checkpoint-<step>` with optimizer, scheduler, random states and counters.
* Losses that are no number are logged as they are, so that the watchdog sees them.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.reward_config import RewardConfig
from trl.trainer.sft_config import SFTConfig

from services.training.ranks import running_processes
from shared.domain.training import Method, TrainParameters

# Later than any training ends: evaluations come at the end alone.
NEVER = 2**31 - 1


def optimizer_name(parameters: TrainParameters, device: torch.device) -> str:
    """What transformers calls the optimizer; plain AdamW is the fused one where there is a GPU."""
    if parameters.optimizer == "adamw_8bit":
        return "adamw_bnb_8bit"
    return "adamw_torch_fused" if device.type == "cuda" else "adamw_torch"


def sharding(parameters: TrainParameters, device: torch.device, recompute: bool) -> dict[str, Any]:
    """Arguments for several processes: FSDP2 on GPUs, where weights, gradients and optimizer state are shared out.

    On CPUs DDP over gloo, where every process has all of them: accelerate knows FSDP for GPUs alone.
    """
    if parameters.processes == 1:
        return {}
    if device.type != "cuda":
        return {"ddp_backend": "gloo", "ddp_find_unused_parameters": False}
    return {
        "fsdp": True,
        "fsdp_config": {
            "version": 2,
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "reshard_after_forward": True,
            # One set of files with whole tensors: any number of processes can go on from it.
            "state_dict_type": "FULL_STATE_DICT",
            "activation_checkpointing": recompute,
        },
    }


def training_arguments(
    parameters: TrainParameters,
    output_folder: Path,
    device: torch.device,
    *,
    recompute: bool,
    evaluates: bool,
    use_cache: bool,
) -> TrainingArguments:
    """The arguments of one training. `recompute`: layers are computed again in backward instead of kept.

    `use_cache` is what the model's saved config says; the Trainer would overwrite it otherwise. Raises ValueError where the
    number of processes that run is not the parameters'.
    """
    if running_processes() != parameters.processes:
        raise ValueError(
            f"{running_processes()} processes run, but the training says {parameters.processes}; start it with as many"
        )
    by_fsdp = parameters.processes > 1 and device.type == "cuda"
    options: dict[str, Any] = {
        "output_dir": str(output_folder),
        "per_device_train_batch_size": parameters.micro_batch,
        "per_device_eval_batch_size": parameters.micro_batch,
        "gradient_accumulation_steps": parameters.accumulation_steps,
        "num_train_epochs": parameters.epochs,
        "max_steps": parameters.maximum_steps or -1,
        "learning_rate": parameters.learning_rate,
        "lr_scheduler_type": parameters.schedule,
        # transformers reads a number below 1 as a share of all steps.
        "warmup_steps": parameters.warmup_share if parameters.warmup_steps is None else parameters.warmup_steps,
        "optim": optimizer_name(parameters, device),
        "adam_beta1": parameters.adam_betas[0],
        "adam_beta2": parameters.adam_betas[1],
        "weight_decay": parameters.weight_decay,
        "max_grad_norm": parameters.maximum_gradient_norm,
        "gradient_checkpointing": recompute and not by_fsdp,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "bf16": False,
        "fp16": False,
        "use_cpu": device.type == "cpu",
        "seed": parameters.seed,
        "logging_strategy": "steps",
        "logging_steps": parameters.log_every_steps,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if evaluates else "no",
        "eval_steps": (parameters.evaluate_every_steps or NEVER) if evaluates else None,
        "save_strategy": "no",
        "save_only_model": False,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "remove_unused_columns": False,
        "use_cache": use_cache,
        **sharding(parameters, device, recompute),
    }
    kind: type[TrainingArguments] = SFTConfig
    if parameters.method is Method.SFT:
        options |= {"max_length": None, "packing": False, "dataset_kwargs": {"skip_prepare_dataset": True}}
    elif parameters.method is Method.REWARD:
        # Dropout of adapters is asked for, so it stays; Mistral itself has none.
        options |= {"max_length": None, "disable_dropout": False}
        kind = RewardConfig
    else:
        options |= {"max_length": None, "disable_dropout": False, "beta": parameters.beta}
        kind = DPOConfig
    return kind(**options)
