"""Tiny models, checkpoint folders and stores for tests of what a training leaves behind."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast, TrainingArguments

from services.training.checkpoints.blocking_store import BlockingStore
from services.training.checkpoints.manifest import CheckpointFile, CheckpointManifest, encode_manifest
from shared.artifacts.layout import checkpoint_folder, checkpoint_prefix

WORDS = ("<unk>", "<s>", "</s>", "<pad>", *(f"word{number}" for number in range(60)))
PREFIX = checkpoint_prefix("project", "job", "train")
TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message['content'] }} {% endfor %}"


def tiny_config(**changes: Any) -> MistralConfig:
    values: dict[str, Any] = {
        "vocab_size": len(WORDS),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
    }
    return MistralConfig(**(values | changes))


def tiny_model(seed: int = 0, **changes: Any) -> MistralForCausalLM:
    torch.manual_seed(seed)
    return MistralForCausalLM(tiny_config(**changes))


def with_weights_as(model: Any, dtype: torch.dtype) -> Any:
    """The model as `from_pretrained` makes it in `dtype`: weights alone, not the frequencies of its positions."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype
    return model


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def token_rows(count: int, length: int = 12) -> list[dict[str, list[int]]]:
    drawn = torch.randint(4, len(WORDS), (count, length), generator=torch.Generator().manual_seed(7)).tolist()
    return [{"input_ids": row, "labels": row} for row in drawn]


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    values: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": 8,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return TrainingArguments(**(values | changes))


CONTENT = {
    "model.safetensors": b"weights",
    "optimizer.pt": b"optimizer",
    "scheduler.pt": b"scheduler",
    "rng_state.pth": b"random state",
    "metrics.jsonl": b"{}\n",
    "training_args.bin": b"a pickle that nobody needs",
}


def checkpoint_on_disk(folder: Path, step: int, without: str | None = None) -> Path:
    """A folder as the Trainer leaves it, with made-up bytes."""
    folder.mkdir(parents=True)
    content = CONTENT | {"trainer_state.json": json.dumps({"global_step": step}).encode()}
    for name, data in content.items():
        if name != without:
            (folder / name).write_bytes(data + (b"" if name == "trainer_state.json" else str(step).encode()))
    return folder


def put_checkpoint(
    store: BlockingStore,
    step: int,
    attempt_id: int = 1,
    fingerprint: str = "ours",
    without: tuple[str, ...] = (),
) -> str:
    """A checkpoint straight into the store; `without` names files that never got there. Returns its folder."""
    folder = checkpoint_folder(PREFIX, step, attempt_id)
    content = CONTENT | {"trainer_state.json": json.dumps({"global_step": step}).encode()}
    files = []
    for name, data in content.items():
        if name not in without and name != "training_args.bin":
            stored = store.put_bytes(f"{folder}/{name}", data)
            files.append(CheckpointFile(name, stored.sha256, stored.size))
    manifest = CheckpointManifest(
        step=step, fingerprint=fingerprint, world_size=1, files=tuple(files), tokens=step * 10, created_at="2026-11-28"
    )
    if "manifest.json" not in without:
        store.put_bytes(f"{folder}/manifest.json", encode_manifest(manifest))
    return folder
