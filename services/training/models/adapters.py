"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685), on full weights or on weights of 4 bits (Dettmers et al. 2023)."""

from typing import cast

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import BitsAndBytesConfig, PreTrainedModel

from shared.domain.errors import InputRefused
from shared.domain.training import Method, TrainParameters

# Heads: the fused losses read lm_head's weight directly, and a reward model's score is trained whole.
HEADS = ("lm_head", "score")


def linear_layers(model: PreTrainedModel) -> tuple[str, ...]:
    """Last names of all linear layers but the heads, sorted: what adapters are put on where nothing is said."""
    names = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    return tuple(sorted(names - set(HEADS)))


def four_bits(dtype: torch.dtype) -> BitsAndBytesConfig:
    """QLoRA's base: 4-bit NormalFloat with doubly quantised constants, computed in `dtype`; the heads stay as they are."""
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=list(HEADS),
    )


def with_adapters(model: PreTrainedModel, parameters: TrainParameters) -> PeftModel:
    """The model with fresh adapters, drawn by the training's seed; everything else is frozen.

    A reward model's score layer is trained whole beside them. Adapters are kept in float32 over a bf16 base (steps of Adam
    are too small for bf16), but in the base's type when it is sharded over processes, where one type is asked for.
    Raises InputRefused where a named layer is not in the model.
    """
    available = linear_layers(model)
    if unknown := sorted(set(parameters.lora.target_modules) - set(available)):
        raise InputRefused(
            f"lora.target_modules names {', '.join(unknown)}, which this model has not; it has {', '.join(available)}",
            "/lora/target_modules",
        )
    is_reward_model = parameters.method is Method.REWARD
    config = LoraConfig(
        r=parameters.lora.rank,
        lora_alpha=cast("int", parameters.lora.alpha),  # peft divides, so a fraction is as good
        lora_dropout=parameters.lora.dropout,
        target_modules=list(parameters.lora.target_modules or available),
        task_type=TaskType.SEQ_CLS if is_reward_model else TaskType.CAUSAL_LM,
    )
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(parameters.seed)
        return get_peft_model(model, config, autocast_adapter_dtype=parameters.processes == 1)
