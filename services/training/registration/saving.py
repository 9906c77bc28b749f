"""Write a trained model as a folder that `from_pretrained` loads: safetensors, configuration, tokenizer, chat template."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from services.training.registration.merging import merge_adapters
from services.training.registration.record import MergeRecord
from shared.domain.errors import StepFailed

MODEL_FOLDER = "model"
ADAPTER_FOLDER = "adapter"
SHARD_SIZE = "4GB"
"""Largest file of weights: one that fails to upload is soon sent again."""

PROBE_TEXT = "Write a short letter to a friend about the weather, and say what you would do on a day like this."
"""What merged weights are compared on."""

_PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})


class SavedModel(msgspec.Struct, frozen=True):
    """Folders that were written; None for what there is none of. In processes other than the first all is None."""

    model: Path | None = None
    adapter: Path | None = None
    merge: MergeRecord | None = None
    architecture: str = ""
    parameter_count: int = 0
    dtype: str = ""

    @property
    def folder(self) -> Path:
        """What is registered: the model, or the adapters where they were not merged."""
        folder = self.model or self.adapter
        assert folder is not None
        return folder


def save_model(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    merge: bool,
    base_name: str,
    full_state: Callable[[], Mapping[str, torch.Tensor]] | None = None,
    plain_base: Callable[[], PreTrainedModel] | None = None,
    is_first_process: bool = True,
) -> SavedModel:
    """Write `folder/model`, and `folder/adapter` for adapters; `model` is used up.

    With adapters and `merge` the model is base and adapters in one, checked by `merge_adapters`; without `merge` the
    adapters are all there is. `base_name` is what the adapters' configuration says of their base.

    For weights that are sharded over processes every process calls this, with `full_state`, which gathers the whole state in
    the first process (accelerate's `get_state_dict`); merging then happens there, on the base that `plain_base` loads.

    Raises StepFailed where the merge is off (`merge_differs`), or a file of weights is no safetensors (`pickle_saved`).
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile's wrapping
    state = None if full_state is None else full_state()
    if not is_first_process:
        return SavedModel()
    if not isinstance(model, PeftModel):
        return _save_plain(model, tokenizer, folder / MODEL_FOLDER, state)

    adapter = folder / ADAPTER_FOLDER
    _save_adapter(model, tokenizer, adapter, base_name, state)
    if not merge:
        base = model.get_base_model()
        return SavedModel(
            None, adapter, None, type(base).__name__, _adapter_parameters(model), _dtype_of_adapter(model)
        )
    if state is not None:
        if plain_base is None:
            raise ValueError("adapters of sharded weights are merged on a base that is whole: pass plain_base")
        del model
        model = PeftModel.from_pretrained(plain_base(), str(adapter))
    merged, record = merge_adapters(model, adapter, _probe(tokenizer))
    saved = _save_plain(merged, tokenizer, folder / MODEL_FOLDER, None)
    return msgspec.structs.replace(saved, adapter=adapter, merge=record)


def refuse_pickles(folder: Path) -> None:
    """Raise StepFailed where a file below `folder` could be a pickle, which runs code in whoever loads it."""
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in _PICKLES)
    if found:
        raise StepFailed(
            "pickle_saved",
            f"the model's folder holds {', '.join(found)}: only safetensors are registered. This is a fault of the program",
        )


def _save_plain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    state: Mapping[str, torch.Tensor] | None,
) -> SavedModel:
    model.config.use_cache = True  # off for training; whoever loads the model wants it on
    model.save_pretrained(folder, state_dict=None if state is None else dict(state), max_shard_size=SHARD_SIZE)
    tokenizer.save_pretrained(folder)
    refuse_pickles(folder)
    weights: Mapping[str, torch.Tensor] = dict(model.named_parameters()) if state is None else state
    return SavedModel(
        model=folder,
        architecture=type(model).__name__,
        parameter_count=sum(tensor.numel() for tensor in weights.values()),
        dtype=str(model.dtype).removeprefix("torch."),
    )


def _save_adapter(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    base_name: str,
    state: Mapping[str, torch.Tensor] | None,
) -> None:
    extra: dict[str, Any] = {} if state is None else {"state_dict": dict(state)}
    # Embeddings are never trained here; "auto" would ask the Hub whether the base's were resized.
    model.save_pretrained(str(folder), save_embedding_layers=False, **extra)
    (folder / "README.md").unlink(missing_ok=True)  # peft's own form, with nothing filled in
    path = folder / "adapter_config.json"
    configuration = json.loads(path.read_bytes())
    configuration["base_model_name_or_path"] = base_name  # peft's is a folder of this worker
    path.write_text(json.dumps(configuration, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    tokenizer.save_pretrained(folder)
    refuse_pickles(folder)


def _adapter_parameters(model: PeftModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _dtype_of_adapter(model: PeftModel) -> str:
    trained = next(parameter for parameter in model.parameters() if parameter.requires_grad)
    return str(trained.dtype).removeprefix("torch.")


def _probe(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    tokens: list[int] = tokenizer(PROBE_TEXT)["input_ids"]
    return tokens
