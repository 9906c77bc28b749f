"""A registered model's folder as a model and a tokenizer of transformers: safetensors alone, no code of its own, no network."""

from pathlib import Path
from typing import Any

import torch

from shared.domain.errors import InputRefused
from shared.model_folder import check_model_folder, read_json

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AUTO = "auto"
"""The type that the weights are stored in."""

_CAUSAL, _CLASSIFIER = "ForCausalLM", "ForSequenceClassification"
_LAYER_KINDS = frozenset({"full_attention", "sliding_attention"})
_GROWING_ROTATIONS = frozenset({"dynamic", "longrope"})


def is_reward_model(folder: Path) -> bool:
    """Whether the folder holds a sequence classifier with one label; raises InputRefused for what is neither that nor a causal
    language model."""
    config = check_model_folder(folder)
    architectures = config.get("architectures") or []
    name = str(architectures[0]) if architectures else ""
    # GPT-2's is called LMHeadModel.
    if name.endswith((_CAUSAL, "LMHeadModel")):
        return False
    if not name.endswith(_CLASSIFIER):
        raise InputRefused(
            f"{folder} holds {name or 'a model without architectures in config.json'}, which this server cannot serve; give a "
            f"language model (…{_CAUSAL}) or a reward model (…{_CLASSIFIER} with one label)"
        )
    return True


def load_model(folder: Path, dtype: str, *, is_reward: bool) -> Any:
    """The model in evaluation mode, on a GPU where there is one. Raises InputRefused for an unknown type, a classifier with other
    than one label, and layers that the engine's attention does not know."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    if dtype != AUTO and dtype not in DTYPES:
        raise InputRefused(f"dtype is {dtype!r}; set {AUTO} or one of {', '.join(DTYPES)}")
    kind = AutoModelForSequenceClassification if is_reward else AutoModelForCausalLM
    try:
        model = kind.from_pretrained(
            folder,
            dtype=AUTO if dtype == AUTO else DTYPES[dtype],
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (ValueError, OSError, KeyError) as error:
        raise InputRefused(f"{folder} cannot be loaded: {str(error)[:300]}") from error
    if is_reward and (model.config.num_labels != 1 or not hasattr(model, "score")):
        raise InputRefused(
            f"{folder} is a classifier with {model.config.num_labels} labels; a reward model has one, and a head called score"
        )
    _check_layers(model, folder)
    module: Any = model  # transformers wraps `to` in a way that loses its type
    return module.to("cuda" if torch.cuda.is_available() else "cpu").eval().requires_grad_(False)


def load_tokenizer(folder: Path) -> Any:
    """The model's tokenizer."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise InputRefused(f"the tokenizer in {folder} cannot be loaded: {str(error)[:300]}") from error


def eos_ids(folder: Path, model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a text: those of generation_config.json (or config.json), and the tokenizer's."""
    config: dict[str, Any] = {}
    if (folder / "generation_config.json").is_file():
        config = read_json(folder / "generation_config.json")
    named = config.get("eos_token_id", getattr(model.config, "eos_token_id", None))
    ids = {named} if isinstance(named, int) else set(named or ())
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    return frozenset(ids)


def total_tokens(model: Any, wanted: int | None) -> int:
    """Most tokens of a sequence: `wanted`, or what the model was made for. Raises InputRefused for more than that."""
    config = model.config.get_text_config()
    most: int | None = getattr(config, "max_position_embeddings", None)
    if wanted is None:
        if most is None:
            raise InputRefused("config.json does not say how many positions the model has; set max-total-tokens")
        wanted = most
    if wanted < 2 or (most is not None and wanted > most):
        raise InputRefused(f"max-total-tokens is {wanted}, but the model has {most} positions; set 2 to {most}")
    for kind, original in _rotations(config):
        if kind in _GROWING_ROTATIONS and original is not None and wanted > original:
            raise InputRefused(
                f"the model turns its positions differently for longer texts (rope type {kind}), so that one long sequence "
                f"would change the others of its batch; set max-total-tokens to at most {original}"
            )
    return wanted


def _rotations(config: Any) -> list[tuple[str, int | None]]:
    """(rope type, positions of the original training) of each kind of layer."""
    parameters = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kinds = [parameters] if "rope_type" in parameters else [one for one in parameters.values() if isinstance(one, dict)]
    most = getattr(config, "max_position_embeddings", None)
    return [
        (
            str(one.get("rope_type")),
            one.get("original_max_position_embeddings")
            or getattr(config, "original_max_position_embeddings", None)
            or most,
        )
        for one in kinds
    ]


def _check_layers(model: Any, folder: Path) -> None:
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    if unknown := sorted(kinds - _LAYER_KINDS):
        raise InputRefused(
            f"{folder} has layers of the kind {', '.join(unknown)}; this server knows full and sliding attention. Serve the "
            "model with another server (kind tgi or openai)"
        )
