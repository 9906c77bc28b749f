"""Open a model's folder as an engine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from services.inference.cpu_server.engine.adapters import AdapterChoice, load_adapters
from services.inference.cpu_server.engine.attention import NAME, register_attention
from services.inference.cpu_server.engine.batch import Batch
from services.inference.cpu_server.engine.detokenising import TokenTexts
from services.inference.cpu_server.engine.engine import TransformersEngine
from services.inference.cpu_server.engine.grammar import Grammars
from services.inference.cpu_server.engine.language_model import LanguageModel, RewardModel
from services.inference.cpu_server.engine.linear import reorder_linear_layers
from services.inference.cpu_server.engine.loading import (
    AUTO,
    eos_ids,
    is_reward_model,
    load_model,
    load_tokenizer,
    total_tokens,
)
from services.inference.cpu_server.engine.protocol import EngineCounters, EngineFacts
from services.inference.cpu_server.engine.self_check import (
    check_equal,
    packed_scores,
    plain_scores,
    reward_scores,
    trial_sequences,
)
from services.inference.cpu_server.engine.worker import Worker
from shared.domain.errors import InputRefused

DEFAULT_SLOTS = 16
DEFAULT_WAITING = 256


def open_engine(
    folder: Path,
    *,
    slots: int = DEFAULT_SLOTS,
    maximum_total_tokens: int | None = None,
    dtype: str = AUTO,
    adapters: Mapping[str, Path] | None = None,
    model_id: str | None = None,
    maximum_waiting: int = DEFAULT_WAITING,
    threads: int | None = None,
) -> TransformersEngine:
    """An engine over the model in `folder`, not started yet. Takes as long as reading the weights and a few forward passes.

    `slots`: sequences that run at once; `maximum_waiting`: that wait for a slot. `maximum_total_tokens`: of a sequence, prompt
    and answer; None is what the model was made for. `dtype`: auto (as stored), float32, bfloat16, float16. `adapters`: name →
    folder, beside the model itself. `threads`: of torch, for the whole process; None is torch's own choice (OMP_NUM_THREADS).

    Raises InputRefused, with what was seen and what to set, for a folder that `check_model_folder` refuses, an architecture that
    the engine cannot run beside others, adapters that do not fit, and values out of range.
    """
    if slots < 1 or maximum_waiting < 0:
        raise InputRefused(f"slots is {slots} and maximum_waiting {maximum_waiting}; set at least 1 and 0")
    is_reward = is_reward_model(folder)
    if is_reward and adapters:
        raise InputRefused(
            "a reward model takes no adapters beside it, because they change its head; serve each merged model by itself"
        )
    model = load_model(folder, dtype, is_reward=is_reward)
    tokenizer = load_tokenizer(folder)
    most = total_tokens(model, maximum_total_tokens)
    vocabulary = int(model.get_input_embeddings().weight.shape[0] if is_reward else _score_count(model))
    texts = TokenTexts(tokenizer, vocabulary)
    ends = eos_ids(folder, model, tokenizer)
    counters = EngineCounters()
    batch, reward = _prepared(model, slots, most, ends, counters, texts, vocabulary, adapters or {}, is_reward)
    facts = EngineFacts(
        model_id=model_id or str(folder),
        is_reward_model=is_reward,
        dtype=str(model.dtype).removeprefix("torch."),
        device=model.device.type,
        maximum_total_tokens=most,
        slots=slots,
        adapters=tuple(adapters or ()),
    )
    worker = Worker(batch, reward, threads or torch.get_num_threads())
    return TransformersEngine(
        facts, counters, worker, texts, Grammars(tokenizer, vocabulary, sorted(ends)), maximum_waiting
    )


def _prepared(
    model: Any,
    slots: int,
    most: int,
    ends: frozenset[int],
    counters: EngineCounters,
    texts: TokenTexts,
    vocabulary: int,
    adapters: Mapping[str, Path],
    is_reward: bool,
) -> tuple[Batch | None, RewardModel | None]:
    """The model with our attention and layers, compared with what it was before."""
    name = type(model).__name__
    trial = trial_sequences(vocabulary, texts.special | ends)
    plain = plain_scores(model, trial)
    choice = AdapterChoice(model.device) if is_reward else load_adapters(model, adapters)
    register_attention()
    try:
        model.set_attn_implementation(NAME)
        reorder_linear_layers(model, slots)
        if is_reward:
            reward = RewardModel(model)
            check_equal([row[-1:] for row in map(_flat, plain)], reward_scores(reward, trial), model.dtype, name)
            return None, reward
        language_model = LanguageModel(model, choice)
        check_equal(plain, packed_scores(language_model, trial), model.dtype, name)
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise InputRefused(
            f"{name} cannot run in a batch of this server: {str(error)[:300]}. Serve it with another server (kind tgi or openai)"
        ) from error
    return Batch(language_model, slots, most, ends, counters), None


def _flat(scores: Any) -> Any:
    return scores.flatten()


def _score_count(model: Any) -> int:
    head = model.get_output_embeddings()
    return int(model.config.get_text_config().vocab_size if head is None else head.weight.shape[0])
