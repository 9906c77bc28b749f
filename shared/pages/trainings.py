"""What report and web pages say of a training, in the same words: method, base model, data, recipe, metrics."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from shared.domain.training import TrainingModel, TrainParameters

METHODS = {
    "sft": "supervised fine-tuning (SFT)",
    "dpo": "direct preference optimisation (DPO)",
    "orpo": "odds-ratio preference optimisation (ORPO)",
    "rm": "reward model (RM)",
}
TUNINGS = {"full": "all weights", "lora": "LoRA adapters", "qlora": "LoRA adapters on a 4-bit base"}

_METRICS = {
    "loss": ("loss", ".4f"),
    "rewards/accuracies": ("pairs whose chosen response is rated higher", ".1%"),
    "rewards/margins": ("reward margin, chosen minus rejected", ".4f"),
    "rewards/chosen": ("reward of the chosen response", ".4f"),
    "rewards/rejected": ("reward of the rejected response", ".4f"),
    "learning_rate": ("learning rate", ".3g"),
    "grad_norm": ("norm of the gradient", ".3g"),
    "tokens_per_second": ("tokens per second", ",.0f"),
    "mfu": ("share of the device's arithmetic (MFU)", ".1%"),
    "memory_bytes": ("memory", "bytes"),
    "model_flops": ("operations that the steps needed (FLOP)", ".3g"),
    "epoch": ("epochs", ".2f"),
    "tokens": ("tokens", ",.0f"),
    "seconds": ("seconds", ",.0f"),
}
"""Known metrics in the order in which they are shown: words and format."""

_NOT_SHOWN = frozenset(
    {
        "step",
        "steps",
        "stage",
        "remaining_seconds",
        "model_flops",
        "runtime",
        "samples_per_second",
        "steps_per_second",
        "model_preparation_time",
    }
)
"""What is counted elsewhere, or tells of the evaluation's own speed."""


def method_text(method: str, tuning: str = "full") -> str:
    """`direct preference optimisation (DPO) of LoRA adapters`; an unknown name as it is."""
    return f"{METHODS.get(method, method)} of {TUNINGS.get(tuning, tuning)}"


def base_text(base: Mapping[str, Any] | None) -> str:
    """Where a training starts from: `the model of training sft`.

    `base`: a `BaseModelChoice`, or what a model registered of it (`source`, `name`, `revision`).
    """
    given = {name: value for name, value in (base or {}).items() if value is not None}
    if "source" in given:
        given = {given["source"]: given["name"], **({"hub_revision": given["revision"]} if "revision" in given else {})}
    match given:
        case {"stage": name}:
            return f"the model of training {name}"
        case {"registry": model}:
            return f"registered model {model}"
        case {"hub": name, "hub_revision": revision}:
            return f"{name} at {revision}"
        case {"hub": name}:
            return str(name)
        case {"folder": folder}:
            return str(folder)
        case {"random": architecture}:
            return f"{architecture} with random weights"
        case _:
            return "unknown"


def data_text(data: Mapping[str, Any] | None) -> str:
    """What a training learns from, as a `DataChoice` says it."""
    match {name: value for name, value in (data or {}).items() if value is not None}:
        case {"job": job}:
            return f"the collection of {job}"
        case {"file": file}:
            return f"uploaded file {file}"
        case _:
            return "the collection of this job"


def ends_of(metrics: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a registered model's training (its last step) and its evaluation came to, by the same names; empty where there is
    none."""
    held_out = metrics.get("evaluation") or {}
    return dict(metrics.get("final") or {}), {name.removeprefix("eval_"): value for name, value in held_out.items()}


def metric_rows(final: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[dict[str, str]]:
    """`name`, `training` and `evaluation` as texts, known metrics first; a dash where a side does not have one.

    Names of evaluation metrics may carry the prefix `eval_`.
    """
    held_out = {name.removeprefix("eval_"): value for name, value in evaluation.items()}
    names = [name for name in (*final, *held_out) if _is_number(final.get(name, held_out.get(name)))]
    known = [name for name in _METRICS if name in names]
    others = sorted({name for name in names if name not in _METRICS} - _NOT_SHOWN)
    return [
        {
            "name": _METRICS[name][0] if name in _METRICS else name.replace("_", " "),
            "training": metric_text(name, final.get(name)),
            "evaluation": metric_text(name, held_out.get(name)),
        }
        for name in (*known, *others)
    ]


def metric_text(name: str, value: object) -> str:
    """A metric's value for people; a dash where there is none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "–"
    shown = _METRICS[name][1] if name in _METRICS else ".4g"
    return f"{value / 1e9:,.2f} GB" if shown == "bytes" else f"{value:{shown}}"


def recipe_rows(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Every option of a training with its value, parts as `lora.rank`, in the order in which `TrainParameters` states them.

    Options that are not set are left out, and those of adapters where there are none.
    """
    found = {name: text for name, text in _leaves(parameters, "") if text}
    if parameters.get("tuning") == "full":
        found = {name: text for name, text in found.items() if not name.startswith("lora.")}
    order = _option_order()
    return sorted(found.items(), key=lambda option: order.get(option[0], len(order)))


def count_text(number: int | None) -> str:
    """`7.24 B`, `1.2 M`, `950`: of parameters and tokens."""
    if number is None:
        return "–"
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:  # what would be rounded to 1,000 of the smaller unit
            return f"{number / size:.3g} {unit}"
    return str(number)


def seconds_text(seconds: float | None) -> str:
    """`1 h 02 min`, `3 min 05 s`, `12 s`; a dash for None."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@cache
def _option_order() -> dict[str, int]:
    names: list[str] = []
    for name, field in TrainParameters.model_fields.items():
        part = field.annotation
        if isinstance(part, type) and issubclass(part, TrainingModel):
            names += [f"{name}.{inner}" for inner in part.model_fields]
        else:
            names.append(name)
    return {name: place for place, name in enumerate(names)}


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{name}", ", ".join(map(str, value))
        elif isinstance(value, bool):
            yield f"{prefix}{name}", "yes" if value else "no"
        else:
            yield f"{prefix}{name}", "" if value is None else str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
