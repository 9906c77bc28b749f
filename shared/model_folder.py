"""What a model folder must hold to be trained from or served: config, safetensors, tokenizer, and nothing that runs code.

Pickled weights (`.bin`, `.pt`, `.pth`, `.ckpt`, `.pkl`) run code when they are read; they are refused, not converted.
"""

import json
from pathlib import Path
from typing import Any

from shared.domain.errors import InputRefused

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")
# What is taken from the Hub: data alone. Python files and pickles are never downloaded.
HUB_PATTERNS = ("*.safetensors", "*.safetensors.index.json", "*.json", "tokenizer.model", "*.jinja")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises InputRefused where the file holds something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputRefused(f"{path} cannot be read as JSON ({error}); give a folder with a complete model") from error
    if not isinstance(value, dict):
        raise InputRefused(f"{path} holds {type(value).__name__}, not an object; give a folder with a complete model")
    return value


def check_model_folder(folder: Path) -> dict[str, Any]:
    """The model's `config.json`, after every check that needs no library.

    Raises InputRefused where the folder is missing or empty, has no `config.json`, holds adapters alone or pickled weights,
    misses a file of its index, has no tokenizer, asks for code of its own (`auto_map`), or is quantised already.
    """
    if not folder.is_dir():
        seen = "is a file" if folder.exists() else "does not exist"
        raise InputRefused(
            f"the base model's folder {folder} {seen}; looked for a folder with config.json, *.safetensors and a tokenizer"
        )
    names = sorted(path.name for path in folder.iterdir())
    if "config.json" not in names:
        if "adapter_config.json" in names:
            raise InputRefused(
                f"{folder} holds adapters without their base (adapter_config.json, but no config.json); train from a model "
                "that was registered with lora.merge true"
            )
        raise InputRefused(
            f"{folder} has no config.json (it holds {', '.join(names[:8]) or 'nothing'}); give the folder that "
            "save_pretrained wrote"
        )
    _check_weights(folder, names)
    if not any(name in names for name in TOKENIZER_FILES):
        raise InputRefused(
            f"{folder} has no tokenizer (neither {' nor '.join(TOKENIZER_FILES)}); save the model's tokenizer into it"
        )
    config = read_json(folder / "config.json")
    for name in ("config.json", "tokenizer_config.json"):
        if name in names and "auto_map" in read_json(folder / name):
            raise InputRefused(
                f"{folder / name} asks for code that comes with the model (auto_map), which is never run; take a model whose "
                "architecture transformers has itself"
            )
    if "quantization_config" in config:
        raise InputRefused(
            f"the weights in {folder} are quantised already (quantization_config in config.json); give the full weights, and "
            "set tuning to qlora to train on 4 bits"
        )
    return config


def _check_weights(folder: Path, names: list[str]) -> None:
    if not any(name.endswith(".safetensors") for name in names):
        pickled = [name for name in names if name.endswith(PICKLED)]
        if pickled:
            raise InputRefused(
                f"{folder} holds its weights as {', '.join(pickled[:4])}, which can run code when read; convert it to "
                "safetensors (load it where you trust it, then save_pretrained)"
            )
        raise InputRefused(
            f"{folder} has no weights: looked for *.safetensors, found {', '.join(names[:8]) or 'nothing'}"
        )
    index = folder / "model.safetensors.index.json"
    if index.name in names:
        wanted = set(read_json(index).get("weight_map", {}).values())
        if missing := sorted(wanted - set(names)):
            raise InputRefused(
                f"{folder} is incomplete: its index names {', '.join(missing[:4])}, which is not there; copy it again"
            )
