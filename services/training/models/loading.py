"""The model that a training starts from, with its tokenizer, ready for the trainers.

Weights come from safetensors alone; code that comes with a model is never run.
"""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from services.training.attention import VARLEN, register_varlen, what_a_neighbour_changes
from services.training.models.adapters import four_bits, with_adapters
from services.training.models.four_bits import keep_four_bit_layout
from services.training.models.random_models import random_mistral_7b, random_tiny_mistral, random_tokenizer
from shared.domain.errors import InputRefused
from shared.domain.training import Method, TrainParameters, Tuning
from shared.model_folder import check_model_folder

# Same shapes give the same kernels, so a neighbour changes nothing but by rounding.
LARGEST_LEAK = 1e-2


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be trained, its tokenizer, and where they are from (`folder <path>`, `random <architecture>`)."""

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    source: str


def training_device() -> torch.device:
    """The device of this process: its own GPU where there is one, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def training_dtype(parameters: TrainParameters) -> torch.dtype:
    """The type of the weights, and of everything computed with them."""
    return torch.bfloat16 if parameters.precision == "bf16" else torch.float32


def load_base(parameters: TrainParameters, folder: Path | None, texts: Iterable[str] = ()) -> LoadedModel:
    """Load the base of a training from `folder` (a fetched base), or make the random one that the parameters name.

    `texts` train the tokenizer of a random base. A reward model gets a new score layer, drawn by the seed, unless the base
    has one already. Adapters are added where the parameters ask for them. The model stands on the CPU, but for
    `mistral-7b` and 4-bit weights, which are made on the training's device; the trainer moves it.

    Raises InputRefused for a folder that cannot be trained from (see `check_model_folder`), an architecture that
    transformers does not have, a base of the wrong kind, and an architecture whose attention lets the rows of a batch
    see each other.
    """
    register_varlen()
    if folder is None:
        model, tokenizer, source = _random_base(parameters, texts)
    else:
        model, tokenizer, source = _base_of_folder(parameters, folder), load_tokenizer(folder), f"folder {folder}"
    give_pad_token(tokenizer)
    _tell_pad_token(model, tokenizer)
    if parameters.tuning is Tuning.QLORA:
        keep_four_bit_layout(model)  # before it runs for the first time: coming back from the other layout rounds
    _refuse_leaks(model, parameters)
    if parameters.tuning is not Tuning.FULL:
        return LoadedModel(with_adapters(model, parameters), tokenizer, source)
    return LoadedModel(model, tokenizer, source)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model's folder. Raises InputRefused where it cannot be read or lacks an end token."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InputRefused(
            f"the tokenizer in {folder} cannot be read ({error}); save it again from its source"
        ) from error
    if tokenizer.eos_token_id is None:
        raise InputRefused(
            f"the tokenizer in {folder} has no end token, so a model could not learn to stop; set its eos_token"
        )
    return tokenizer


def _random_base(
    parameters: TrainParameters, texts: Iterable[str]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    tokenizer = random_tokenizer(texts)
    dtype = training_dtype(parameters)
    if parameters.base.random == "mistral-7b":
        model = random_mistral_7b(parameters.seed, training_device(), dtype)
    elif parameters.base.random == "tiny-mistral":
        model = random_tiny_mistral(len(tokenizer), parameters.seed, dtype)
    else:
        raise InputRefused("the base model was not fetched: no folder was given, and base names no random architecture")
    source = f"random {parameters.base.random}"
    if parameters.tuning is Tuning.QLORA or parameters.method is Method.REWARD:
        # Both are made by reading a saved model, so a random one takes the same way as any other.
        with tempfile.TemporaryDirectory() as temporary:
            # Not by save_pretrained, which writes in one of several processes alone.
            model.config.architectures = [type(model).__name__]
            model.config.save_pretrained(temporary)
            save_file(model.state_dict(), Path(temporary) / "model.safetensors", metadata={"format": "pt"})
            tokenizer.save_pretrained(temporary)
            del model
            return _base_of_folder(parameters, Path(temporary)), tokenizer, source
    model.set_attn_implementation(attention_name(parameters))
    return model, tokenizer, source


def attention_name(parameters: TrainParameters) -> str:
    """What transformers calls the attention that the parameters ask for."""
    return VARLEN if parameters.attention == "varlen" else "sdpa"


def _base_of_folder(parameters: TrainParameters, folder: Path) -> PreTrainedModel:
    config = check_model_folder(folder)
    architectures = config.get("architectures") or []
    is_scored = any(str(name).endswith("ForSequenceClassification") for name in architectures)
    options: dict[str, Any] = {
        "dtype": training_dtype(parameters),
        "attn_implementation": attention_name(parameters),
        "trust_remote_code": False,
        "local_files_only": True,
        "use_safetensors": True,
    }
    if parameters.tuning is Tuning.QLORA:
        options["quantization_config"] = four_bits(training_dtype(parameters))
        options["device_map"] = {"": training_device()}
    kind: Any = AutoModelForCausalLM
    if parameters.method is Method.REWARD:
        kind = AutoModelForSequenceClassification
        if is_scored and len(config.get("id2label") or {0: "", 1: ""}) != 1:
            raise InputRefused(
                f"{folder} holds a classifier of {len(config.get('id2label') or {0: '', 1: ''})} classes; a reward model gives "
                "one number. Give a reward model or a language model"
            )
        if not is_scored:
            options["num_labels"] = 1
    elif is_scored:
        raise InputRefused(
            f"{folder} holds a reward model ({architectures[0]}), which cannot answer; {parameters.method.value} starts from a "
            "language model"
        )
    # The score layer of a new reward model is drawn here.
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
        torch.manual_seed(parameters.seed)
        try:
            model, report = kind.from_pretrained(folder, output_loading_info=True, **options)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
            raise InputRefused(
                f"the model in {folder} cannot be loaded ({error}); it must be a language model that this version of "
                "transformers knows"
            ) from error
    # transformers would draw missing weights at random and only warn.
    new = {"score.weight"} if "num_labels" in options else set()
    if missing := sorted(set(report["missing_keys"]) - new):
        raise InputRefused(
            f"the weights in {folder} lack {', '.join(missing[:4])} ({len(missing)} in all), which its config.json asks for; "
            "copy the model again"
        )
    loaded: PreTrainedModel = model
    return loaded


def give_pad_token(tokenizer: PreTrainedTokenizerBase) -> None:
    """An own pad token, never the end token: transformers scores a reward model at the last token that is no padding.

    `<unk>` where the tokenizer has no pad token; the vocabulary does not grow. Raises InputRefused without either.
    """
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        if tokenizer.unk_token_id is None or tokenizer.unk_token_id == tokenizer.eos_token_id:
            raise InputRefused(
                "the tokenizer has neither a pad token besides its end token nor an unknown token to pad with; set its "
                "pad_token to an unused token"
            )
        tokenizer.pad_token = tokenizer.unk_token


def _tell_pad_token(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    if model.can_generate():
        model.generation_config.pad_token_id = tokenizer.pad_token_id


def _refuse_leaks(model: PreTrainedModel, parameters: TrainParameters) -> None:
    dropout = getattr(model.config.get_text_config(), "attention_dropout", 0.0)
    if parameters.attention == "varlen" and dropout:
        raise InputRefused(
            f"the base model drops {dropout:g} of its attention in training, which attention varlen does not do; set attention "
            "to sdpa"
        )
    try:
        change = what_a_neighbour_changes(model)
    except ValueError as error:
        raise InputRefused(f"{error}; set attention to sdpa, or take another base") from error
    if change > LARGEST_LEAK:
        raise InputRefused(
            f"rows that share a batch see each other in this architecture ({type(model).__name__}): a neighbour changed a "
            f"hidden state by {change:.2g} of its size. It cannot be trained without padding here; take another base"
        )
