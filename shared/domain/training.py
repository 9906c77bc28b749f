"""What a user may set of one training: method, base model, data, and how to train. Unknown fields are refused.

Defaults are the paper's full fine-tune (Lee et al. 2024, arXiv 2405.17977, appendix on training details): 8-bit AdamW
without weight decay, cosine schedule, loss on the response alone. Method, base and data differ from training to training,
so every other value that depends on the method is taken from a preset or set by hand.

Refused combinations (each with what to set instead): see `TrainParameters.refuse_combinations`.
"""

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.domain.training_presets import training_preset


class TrainingModel(BaseModel):
    """Base of all parts of a training: unknown fields are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Method(StrEnum):
    """What is trained: a language model on responses (SFT), on pairs (DPO, ORPO), or a reward model on pairs."""

    SFT = "sft"
    DPO = "dpo"
    ORPO = "orpo"
    REWARD = "rm"


class Tuning(StrEnum):
    """Which weights are trained: all, low-rank adapters, or low-rank adapters on a base held in 4 bits."""

    FULL = "full"
    LORA = "lora"
    QLORA = "qlora"


class BaseModelChoice(TrainingModel):
    """The model that training starts from: exactly one of the places. Code that comes with a model is never run."""

    stage: str | None = Field(default=None, description="name of an earlier training of the same job")
    registry: str | None = Field(default=None, description="id of a registered model")
    folder: str | None = Field(
        default=None, description="folder of a model, below the models folder that the operator set for workers"
    )
    hub: str | None = Field(default=None, description="model on the Hub, such as mistralai/Mistral-7B-v0.2")
    random: Literal["tiny-mistral", "mistral-7b"] | None = Field(
        default=None, description="an architecture with random weights, made on the spot: for trials and measurements"
    )
    hub_revision: str | None = Field(default=None, description="of a Hub model only")

    @model_validator(mode="after")
    def exactly_one_place(self) -> "BaseModelChoice":
        given = [name for name in ("stage", "registry", "folder", "hub", "random") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"a base model is exactly one of stage, registry, folder, hub and random; seen: {', '.join(given) or 'none'}"
            )
        if self.hub_revision is not None and self.hub is None:
            raise ValueError(
                f"hub_revision is {self.hub_revision!r}, but the base is no Hub model; leave it out, or set hub"
            )
        return self


class DataChoice(TrainingModel):
    """The rows that are trained on. Nothing set: the collection that the same job makes."""

    job: str | None = Field(default=None, description="id of a finished job whose export is trained on")
    file: str | None = Field(
        default=None, description="id of an uploaded file (JSONL or Parquet) with the columns of the method's export"
    )

    @model_validator(mode="after")
    def at_most_one_place(self) -> "DataChoice":
        if self.job is not None and self.file is not None:
            raise ValueError("data names both a job and a file; leave one of them out")
        return self

    @property
    def is_own(self) -> bool:
        """Whether the data are what the same job makes."""
        return self.job is None and self.file is None


class LoraParameters(TrainingModel):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685)."""

    rank: int = Field(default=16, ge=1, le=1024)
    alpha: float = Field(default=32.0, gt=0, description="the update is scaled by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: tuple[str, ...] = Field(
        default=(), description="names of linear layers; empty takes all of them but the output layer"
    )
    merge: bool = Field(
        default=True, description="register the base with the adapters merged in; false: adapters alone"
    )


class TrainParameters(TrainingModel):
    """One training of a job: a stage of its own, called `name`."""

    preset: str | None = Field(default=None, description="ready values for what is left out, such as janus-sft")
    name: str = Field(
        default="train", pattern=r"^[a-z][a-z0-9-]{0,39}$", description="name of the stage, unique within the job"
    )
    method: Method
    base: BaseModelChoice
    data: DataChoice = DataChoice()
    one_message_per_instruction: bool = Field(
        default=False, description="of an instruction's several system messages train on one, drawn by seed (Janus*)"
    )
    maximum_rows: int | None = Field(default=None, ge=1, description="train on so many rows, drawn by seed")

    maximum_test_rows: int | None = Field(
        default=None, ge=1, description="evaluate on so many of the test rows, drawn by seed; null: on all"
    )

    tuning: Tuning = Tuning.FULL
    lora: LoraParameters = LoraParameters()

    epochs: float = Field(default=1.0, gt=0, le=1000)
    maximum_steps: int | None = Field(default=None, ge=1, description="end after so many steps; stands before epochs")
    learning_rate: float = Field(default=5e-6, gt=0, le=1)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: int | None = Field(default=10, ge=0, description="null: warmup_share says")
    warmup_share: float = Field(default=0.0, ge=0, lt=1, description="share of all steps, where warmup_steps is null")
    optimizer: Literal["adamw_8bit", "adamw"] = "adamw_8bit"
    adam_betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    maximum_gradient_norm: float = Field(default=1.0, gt=0)

    maximum_length: int = Field(default=8192, ge=16, description="tokens of one row (of a pack of rows, for SFT)")
    packing: bool | None = Field(
        default=None, description="several rows share a sequence without seeing each other; null: for sft alone"
    )
    global_batch: int = Field(default=32, ge=1, description="sequences (packs, pairs) of one optimizer step")
    micro_batch: int = Field(default=1, ge=1, description="of these, how many one process computes at once")
    processes: int = Field(default=1, ge=1, le=64, description="training processes, one per GPU")
    precision: Literal["bf16", "fp32"] = "bf16"
    attention: Literal["varlen", "sdpa"] = Field(
        default="varlen", description="varlen computes no padding and no pair of tokens of different rows"
    )
    recompute: Literal["auto", "always", "never"] = Field(
        default="auto", description="activation checkpointing: less memory, a third more work; auto where memory asks"
    )
    compile: bool = Field(default=False, description="compile the model's layers with torch.compile")

    beta: float = Field(default=0.1, gt=0, description="DPO's beta; ORPO's lambda")

    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    log_every_steps: int = Field(default=1, ge=1)
    checkpoint_every_steps: int | None = Field(default=None, ge=1, description="null: checkpoint_every_seconds alone")
    checkpoint_every_seconds: float = Field(default=900.0, gt=0)
    evaluate_every_steps: int | None = Field(default=None, ge=1, description="null: at the end alone")
    maximum_lost_share: float = Field(
        default=0.01, ge=0, le=1, description="rows that are cut, dropped or broken; more of them end the training"
    )
    dry_run: bool = Field(default=False, description="check everything and show the rows as tokens; train nothing")
    push_to_hub: str | None = Field(default=None, description="repository on the Hub that receives the finished model")

    @model_validator(mode="before")
    @classmethod
    def take_preset(cls, values: Any) -> Any:
        """Values of the preset where nothing is said. A stored training says everything, so it reads back as it is."""
        preset = values.get("preset") if isinstance(values, dict) else None
        if not isinstance(preset, str):
            return values
        merged = training_preset(preset)
        for name, value in values.items():
            below = merged.get(name)
            # Parts of `lora` are merged one by one; another base or other data stand for themselves.
            if name == "lora" and isinstance(below, dict) and isinstance(value, dict):
                value = {**below, **value}  # noqa: PLW2901  the part as a whole
            merged[name] = value
        return merged

    @model_validator(mode="after")
    def refuse_combinations(self) -> "TrainParameters":
        """Refuse what cannot work or would do nothing, and say what to set instead."""
        per_step = self.micro_batch * self.processes
        if self.global_batch % per_step:
            raise ValueError(
                f"global_batch {self.global_batch} is no multiple of micro_batch x processes = {per_step}; set one that is"
            )
        if self.packing and self.method is not Method.SFT:
            raise ValueError(
                f"packing is for sft; pairs of {self.method.value} are laid one behind the other without padding anyway. Leave "
                "packing out"
            )
        if self.tuning is Tuning.QLORA and self.processes > 1:
            raise ValueError(
                "qlora runs in one process: 4-bit weights cannot be sharded here; set processes to 1, or tuning to lora"
            )
        if self.tuning is Tuning.QLORA and self.method is Method.REWARD:
            raise ValueError(
                "a reward model gets a new output layer, which 4-bit weights cannot hold; set tuning to lora"
            )
        if self.tuning is Tuning.FULL and self.lora != LoraParameters():
            raise ValueError("lora is set, but tuning is full; set tuning to lora or qlora, or leave lora out")
        if "lm_head" in self.lora.target_modules:
            raise ValueError(
                "lora.target_modules names lm_head, whose weight the fused loss reads directly: its adapter would not be "
                "trained. Leave it out"
            )
        if self.attention == "sdpa" and self.compile and self.packs_rows:
            raise ValueError("compile with packed rows needs attention varlen; set that, or compile to false")
        if self.warmup_steps is not None and self.warmup_share:
            raise ValueError(
                "both warmup_steps and warmup_share are set; set warmup_steps to null, or leave warmup_share out"
            )
        if self.optimizer == "adamw_8bit" and self.processes > 1:
            raise ValueError(
                "the 8-bit optimizer cannot keep its state for sharded weights; set optimizer to adamw, or processes to 1"
            )
        if self.one_message_per_instruction and self.method is not Method.SFT:
            raise ValueError("one_message_per_instruction is for sft; leave it out")
        if self.beta != type(self).model_fields["beta"].default and self.method in (Method.SFT, Method.REWARD):
            raise ValueError(f"beta is for dpo and orpo; leave it out for {self.method.value}")
        if self.evaluate_every_steps is not None and self.data.file is not None:
            raise ValueError("an uploaded file has no test split to evaluate on; leave evaluate_every_steps out")
        if self.maximum_test_rows is not None and self.data.file is not None:
            raise ValueError("an uploaded file has no test split to evaluate on; leave maximum_test_rows out")
        if self.dry_run and self.push_to_hub is not None:
            raise ValueError("a dry run makes no model to push; leave push_to_hub out, or dry_run")
        if self.tuning is not Tuning.FULL and not self.lora.merge and self.method is Method.REWARD:
            raise ValueError("a reward model's adapters are of no use without its output layer; set lora.merge to true")
        return self

    @property
    def packs_rows(self) -> bool:
        """Whether several rows share a sequence."""
        return self.method is Method.SFT if self.packing is None else self.packing

    @property
    def accumulation_steps(self) -> int:
        """Micro-batches that one process adds up for one optimizer step."""
        return self.global_batch // (self.micro_batch * self.processes)
