"""Models that trainings made: what is registered of one, and how its objects are called."""

from typing import Any

import msgspec

MODEL_KIND = "model"
"""Kind of the objects `model/*`: weights, configuration, tokenizer, chat template, card. They can be loaded as one folder."""
ADAPTER_KIND = "adapter"
"""Kind of the objects `adapter/*`: low-rank adapters without their base."""
CHECKPOINT_KIND = "checkpoint"
METRICS_KIND = "metrics"

WEIGHT_KINDS = frozenset({MODEL_KIND, ADAPTER_KIND, CHECKPOINT_KIND})
"""Kinds of objects that may be many gigabytes: only who asks for them is given them."""

METRICS_FILE = "metrics.jsonl"
"""One JSON object per logged step of a training."""


class ModelRegistration(msgspec.Struct, frozen=True):
    """What a training tells of the model that it made. Everything is small JSON."""

    name: str
    method: str
    tuning: str
    base: dict[str, Any]
    """Where training started: {stage | registry | folder | hub | random: …} and what is known of it."""
    parameter_count: int
    dtype: str
    metrics: dict[str, Any]
    """The last figures of the training and of its evaluation."""
    lineage: dict[str, Any]
    """Whatever else leads back to how it was made; ids of the inputs, parameters and code version are added when it is
    committed."""
    adapter_only: bool
