"""Compiling a model's layers, one by one: they are alike, so one compilation serves all of them."""

from peft import PeftModel
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer


def compile_layers(model: PreTrainedModel | PeftModel, backend: str = "inductor") -> int:
    """Compile each layer in place, for batches of any length; how many were. Names of weights do not change.

    Raises ValueError for an architecture whose layers cannot be told.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no layers that can be compiled; set compile to false")
    for layer in layers:
        layer.compile(backend=backend, dynamic=True)
    return len(layers)
