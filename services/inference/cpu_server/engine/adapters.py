"""Low-rank adapters beside one base: sequences with different adapters, and without, share a forward pass.

peft reads the adapters and says what each layer's matrices and scale are; the layers that run are our own, because peft's know
rows of a batch and here all tokens lie in one row. For y = W x an adapter adds s · B A x (Hu et al. 2021, arXiv 2106.09685).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from shared.domain.errors import InputRefused
from shared.model_folder import PICKLED, read_json

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


class AdapterChoice:
    """Which adapter each token of the next forward pass has: shared by all layers, set before the pass."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._tokens: dict[str, torch.Tensor | None] = {}

    def set(self, adapters: Sequence[str | None]) -> None:
        """One name, or None, for each token in the batch's order."""
        names = dict.fromkeys(adapters)
        if len(names) == 1:
            (name,) = names
            self._tokens = {} if name is None else {name: None}
            return
        self._tokens = {
            name: torch.tensor([place for place, other in enumerate(adapters) if other == name], device=self._device)
            for name in names
            if name is not None
        }

    def tokens(self) -> Mapping[str, torch.Tensor | None]:
        """Adapter → places of its tokens; None stands for all."""
        return self._tokens


class AdaptedLayer(torch.nn.Module):
    """A linear layer and the matrices of the adapters that change it."""

    def __init__(
        self, base: torch.nn.Module, adapters: Mapping[str, tuple[torch.Tensor, torch.Tensor]], choice: AdapterChoice
    ) -> None:
        """`adapters`: name → A transposed [in, rank], and B transposed and scaled [rank, out]."""
        super().__init__()
        self.base = base
        self._adapters = dict(adapters)
        self._choice = choice

    @property
    def weight(self) -> torch.Tensor:
        """The base's: some architectures look at its type."""
        return cast("torch.Tensor", self.base.weight)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.base(states)
        for name, places in self._choice.tokens().items():
            if name not in self._adapters:
                continue
            down, up = self._adapters[name]
            change = ((states if places is None else states[:, places]) @ down) @ up
            output = output + change if places is None else output.index_add(1, places, change)
        return output


def load_adapters(model: Any, adapters: Mapping[str, Path]) -> AdapterChoice:
    """Put adapters on a language model, in place. Raises InputRefused for a folder that holds none or other than plain low-rank
    ones, or whose matrices do not fit the model."""
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    choice = AdapterChoice(model.device)
    if not adapters:
        return choice
    for name, folder in adapters.items():
        _check_adapter(name, folder)
    wrapped = None
    for name, folder in adapters.items():
        try:
            if wrapped is None:
                wrapped = PeftModel.from_pretrained(
                    model, str(folder), adapter_name=name, local_files_only=True, autocast_adapter_dtype=False
                )
            else:
                wrapped.load_adapter(
                    str(folder), adapter_name=name, local_files_only=True, autocast_adapter_dtype=False
                )
        except (RuntimeError, ValueError, KeyError) as error:
            raise InputRefused(
                f"adapter {name} ({folder}) does not fit the model: {str(error)[:300]}; give an adapter that was trained "
                "from this model"
            ) from error
    for parent in list(model.modules()):
        for place, child in list(parent.named_children()):
            if isinstance(child, LoraLayer):
                setattr(parent, place, _layer(child, choice))
    return choice


def _layer(layer: Any, choice: AdapterChoice) -> AdaptedLayer:
    base = layer.get_base_layer()
    dtype = base.weight.dtype
    matrices = {
        name: (
            down.weight.detach().to(base.weight.device, dtype).T.contiguous(),
            (layer.lora_B[name].weight.detach() * layer.scaling[name]).to(base.weight.device, dtype).T.contiguous(),
        )
        for name, down in layer.lora_A.items()
    }
    return AdaptedLayer(base, matrices, choice)


def _check_adapter(name: str, folder: Path) -> None:
    where = f"adapter {name} ({folder})"
    if not (folder / _CONFIG).is_file():
        seen = f"has no {_CONFIG}" if folder.is_dir() else "is no folder"
        raise InputRefused(f"{where} {seen}; give the folder of a registered adapter")
    if not (folder / _WEIGHTS).is_file():
        pickled = sorted(path.name for path in folder.iterdir() if path.name.endswith(PICKLED))
        held = f"it holds {', '.join(pickled)}, which can run code when read" if pickled else "there are no weights"
        raise InputRefused(f"{where} has no {_WEIGHTS} ({held}); save it as safetensors")
    config = read_json(folder / _CONFIG)
    wrong = {
        "peft_type": config.get("peft_type") != "LORA",
        "task_type": config.get("task_type") not in (None, "CAUSAL_LM"),
        **{
            key: bool(config.get(key))
            for key in ("use_dora", "lora_bias", "modules_to_save", "trainable_token_indices", "target_parameters")
        },
        "bias": config.get("bias", "none") != "none",
        "auto_mapping": "auto_map" in json.dumps(config.get("auto_mapping")),
    }
    if told := [f"{key} is {config.get(key)!r}" for key, is_wrong in wrong.items() if is_wrong]:
        raise InputRefused(
            f"{where} is no plain low-rank adapter of a language model ({', '.join(told)}); merge it into its base "
            "(lora.merge true) and serve the merged model"
        )
