"""Training speed against trl's defaults on the same rows: `python -m benchmarks.training [--methods sft,dpo] [--steps N]`.

On a GPU the model is Mistral's 7B architecture with random weights in bf16. On a CPU it is a small one of the same
architecture in float32, and rows are a quarter as long: there only the ratio says something. Nothing is downloaded. Rows are
random tokens whose lengths are drawn like a multifaceted collection's: about 1,000 tokens, 40% of them prompt (system message
and instruction).

Each measurement is a process of its own, so that peak memory is its own. Tokens are real ones: padding does not count. The
first steps are not timed. Where a set-up does not fit into memory, the next of its ladder is measured, and the table says so.
"""

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np

MEDIAN_PROMPT, SPREAD_PROMPT = 350, 0.5
MEDIAN_RESPONSE, SPREAD_RESPONSE = 540, 0.45
LONGEST = {"sft": 8192, "dpo": 2048}
"""Tokens of a pack, and of one side of a pair: the paper's."""

SHORTER_ON_CPU = 4

OUT_OF_MEMORY = 17
"""Exit status of a measurement that did not fit."""


class Setup(msgspec.Struct, frozen=True):
    """One way to train. `rows` is how many rows (ours, SFT: packs; DPO: pairs) one step takes at once."""

    who: str
    rows: int
    recompute: bool
    low_precision: bool
    """trl: weights loaded in bf16 instead of its float32. Ours: always on a GPU."""
    compile: bool = False

    def told(self) -> str:
        """What the table says of it."""
        parts = [f"batch {self.rows}", "recompute" if self.recompute else "no recompute"]
        if self.who == "trl" and self.low_precision:
            parts.append("weights in bf16")
        if self.compile:
            parts.append("compiled")
        return ", ".join(parts)


class Figures(msgspec.Struct, frozen=True):
    """What one process measured. Rates are per second of the timed steps; memory in bytes."""

    tokens_per_second: float
    mfu: float | None
    peak_bytes: int
    seconds: float
    tokens: int
    loss: float
    device: str
    versions: str


def ladder(who: str, method: str, on_gpu: bool) -> list[Setup]:
    """What to measure, the next one where one does not fit into memory. trl's defaults are batch 8, recompute, float32."""
    if who == "trl":
        return [Setup("trl", rows, True, low) for low in (False, True) for rows in (8, 4, 2, 1)]
    # As many tokens at once as trl's batch of 8 rows holds: one pack, or 8 pairs.
    rows = 1 if method == "sft" else 8
    compiled = (True, False) if on_gpu else (False,)
    return [
        Setup("ours", size, recompute, True, compile=compile_)
        for size in dict.fromkeys((rows, max(1, rows // 4)))
        for recompute in (False, True)
        for compile_ in compiled
    ]


def lengths(rows: int, median: float, spread: float, seed: int) -> Any:
    """Log-normal lengths of at least 8 tokens."""
    drawn = np.random.default_rng(seed).lognormal(np.log(median), spread, rows)
    return np.maximum(8, drawn.round().astype(int))


def longest(method: str, on_gpu: bool) -> int:
    """Tokens of a pack, or of one side of a pair."""
    return LONGEST[method] if on_gpu else LONGEST[method] // SHORTER_ON_CPU


def token_rows(method: str, rows: int, vocabulary: int, on_gpu: bool) -> list[dict[str, Any]]:
    """Rows of the data contract of `services.training`, not packed. None is longer than the method's length."""
    part = 1 if on_gpu else SHORTER_ON_CPU
    prompts = lengths(rows, MEDIAN_PROMPT / part, SPREAD_PROMPT, 1)
    first, second = (lengths(rows, MEDIAN_RESPONSE / part, SPREAD_RESPONSE, seed) for seed in (2, 3))
    most = longest("dpo", on_gpu)
    prompts = np.minimum(prompts, most // 2)
    first, second = np.minimum(first, most - prompts), np.minimum(second, most - prompts)
    draw = np.random.default_rng(4)

    def tokens(count: int) -> list[int]:
        return [int(token) for token in draw.integers(5, vocabulary, count)]

    made: list[dict[str, Any]] = []
    for prompt_length, chosen_length, rejected_length in zip(prompts, first, second, strict=True):
        prompt, chosen = tokens(prompt_length), tokens(chosen_length)
        if method == "sft":
            made.append({"input_ids": [*prompt, *chosen], "labels": [-100] * len(prompt) + chosen})
        else:
            made.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": tokens(rejected_length)})
    return made


# ---- one measurement, in a process of its own ---------------------------------------------------------------------------


def measure(method: str, setup: Setup, steps: int, warm_up: int) -> Figures:
    """Train and time. Raises torch's OutOfMemoryError where it does not fit."""
    import torch
    import transformers
    import trl
    from transformers import TrainerCallback

    from services.training.models.loading import training_device
    from services.training.speed import model_flops, peak_flops, utilisation

    device = training_device()

    class Clock(TrainerCallback):  # type: ignore[misc]
        ends: list[float] = []  # noqa: RUF012  one instance
        losses: list[float] = []  # noqa: RUF012

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if device.type == "cuda":
                torch.cuda.synchronize()
            self.ends.append(time.perf_counter())

        def on_log(self, *_: Any, logs: dict[str, Any], **__: Any) -> None:
            if "loss" in logs:
                self.losses.append(float(logs["loss"]))

    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        make = _trl_trainer if setup.who == "trl" else _our_trainer
        trainer = make(method, setup, steps, device, Path(scratch), clock)
        config = trainer.model.config
        seen = _count_batches(trainer)
        gc.collect()
        trainer.train()
    used = seen[warm_up:steps]
    seconds = clock.ends[-1] - clock.ends[warm_up - 1]
    tokens, squares, scored = (sum(batch[place] for batch in used) for place in range(3))
    flops = model_flops(config, tokens=tokens, squares=squares, scored=scored)
    peak = peak_flops(device, torch.bfloat16)
    on_gpu = device.type == "cuda"
    memory = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Figures(
        tokens_per_second=tokens / seconds,
        mfu=None if flops is None else utilisation(flops, seconds, 1, peak),
        peak_bytes=memory,
        seconds=seconds,
        tokens=tokens,
        loss=clock.losses[-1],
        device=torch.cuda.get_device_name(0) if on_gpu else f"CPU, {torch.get_num_threads()} threads",
        versions=f"torch {torch.__version__}, transformers {transformers.__version__}, trl {trl.__version__}",
    )


def _count_batches(trainer: Any) -> list[tuple[int, int, int]]:
    """Real tokens, squared lengths and scored tokens of every batch that the trainer's collator makes, in order."""
    collate = trainer.data_collator
    seen: list[tuple[int, int, int]] = []

    def counting(rows: Any) -> Any:
        batch = collate(rows)
        if "counts" in batch:
            counts = batch["counts"]
            seen.append((counts["tokens"], counts["squares"], counts["scored"]))
        else:
            sizes = batch["attention_mask"].sum(dim=1)
            marked = (batch["labels"] != -100) if "labels" in batch else batch["completion_mask"].bool()
            seen.append((int(sizes.sum()), int((sizes**2).sum()), int(marked.sum())))
        return batch

    trainer.data_collator = counting
    return seen


def _model(device: Any, low_precision: bool) -> Any:
    import torch
    from transformers import MistralForCausalLM

    from services.training.models.random_models import mistral_7b_config, random_mistral_7b, tiny_mistral_config

    if device.type == "cuda":
        model = random_mistral_7b(0, device, torch.bfloat16 if low_precision else torch.float32)
        assert model.config.hidden_size == mistral_7b_config().hidden_size
        return model
    config = tiny_mistral_config(8192)
    config.update({"hidden_size": 256, "intermediate_size": 768, "head_dim": 64})
    torch.manual_seed(0)
    return MistralForCausalLM(config)


def _our_trainer(method: str, setup: Setup, steps: int, device: Any, scratch: Path, clock: Any) -> Any:
    import datasets

    from services.training.attention import register_varlen
    from services.training.data.packing import pack
    from services.training.models.loading import attention_name
    from services.training.models.random_models import random_tokenizer
    from services.training.reference import compute_reference
    from services.training.trainers.build import build_trainer
    from shared.domain.training import TrainParameters

    on_gpu = device.type == "cuda"
    parameters = TrainParameters.model_validate(
        {
            "method": method,
            "base": {"random": "mistral-7b" if on_gpu else "tiny-mistral"},
            "maximum_steps": steps,
            "warmup_steps": 0,
            "global_batch": setup.rows,
            "micro_batch": setup.rows,
            "maximum_length": longest(method, on_gpu),
            "precision": "bf16" if on_gpu else "fp32",
            "optimizer": "adamw_8bit" if on_gpu else "adamw",
            "compile": setup.compile,
        }
    )
    register_varlen()
    model = _model(device, on_gpu)
    model.set_attn_implementation(attention_name(parameters))
    # A pack holds about 8 rows.
    rows = token_rows(method, steps * setup.rows * (10 if method == "sft" else 1), model.config.vocab_size, on_gpu)
    train = datasets.Dataset.from_list(rows)
    if method == "sft":
        train, _ = pack(train, longest(method, on_gpu), 0, scratch, "train")
    reference = None if method == "sft" else compute_reference(model, train, None, device=device)
    data = SimpleNamespace(train=train, test=None)
    return build_trainer(
        parameters, model, random_tokenizer([]), data, scratch, [clock], reference, recompute=setup.recompute
    )


def _trl_trainer(method: str, setup: Setup, steps: int, device: Any, scratch: Path, clock: Any) -> Any:
    """trl as it comes, but for what the comparison needs: the same rows uncut, no saving, and float32 on a CPU."""
    import datasets
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    from services.training.models.random_models import random_tokenizer

    on_gpu = device.type == "cuda"
    model = _model(device, setup.low_precision and on_gpu)
    tokenizer = random_tokenizer([])
    tokenizer.pad_token = "<unk>"
    model.save_pretrained(scratch / "model")
    tokenizer.save_pretrained(scratch / "model")
    rows = token_rows(method, steps * setup.rows, model.config.vocab_size, on_gpu)
    del model
    gc.collect()
    options: dict[str, Any] = {
        "output_dir": str(scratch / "out"),
        "max_steps": steps,
        "per_device_train_batch_size": setup.rows,
        "max_length": longest(method, on_gpu),
        "bf16": on_gpu,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "model_init_kwargs": {"dtype": "bfloat16"} if setup.low_precision and on_gpu else None,
    }
    if method == "sft":
        arguments: Any = SFTConfig(**options)
        kind: Any = SFTTrainer
    else:
        arguments = DPOConfig(**options)

        class Tokenised(DPOTrainer):  # type: ignore[misc]
            """Takes rows that are tokens already, as trl's SFT trainer does by itself."""

            def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
                return dataset

        kind = Tokenised
    return kind(
        model=str(scratch / "model"),
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[clock],
    )


# ---- the table ----------------------------------------------------------------------------------------------------------


def _run(method: str, setup: Setup, steps: int, warm_up: int) -> Figures | None:
    """The figures of one measurement; None where it did not fit into memory."""
    request = json.dumps({"method": method, "setup": msgspec.to_builtins(setup), "steps": steps, "warm_up": warm_up})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training", "--measure", request],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"},
    )
    if done.returncode == OUT_OF_MEMORY:
        return None
    if done.returncode != 0:
        raise RuntimeError(f"{setup.who} {method} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Figures)


def _measure_and_print(request: dict[str, Any]) -> int:
    import torch

    try:
        figures = measure(
            request["method"], msgspec.convert(request["setup"], Setup), request["steps"], request["warm_up"]
        )
    except torch.OutOfMemoryError:
        return OUT_OF_MEMORY
    sys.stdout.write(msgspec.json.encode(figures).decode() + "\n")
    return 0


def _table(methods: list[str], steps: int, warm_up: int, on_gpu: bool) -> None:
    print("| method | what | set-up | tokens/s | MFU | peak memory | ratio |")
    print("|---|---|---|---|---|---|---|")
    told = ""
    for method in methods:
        base = 0.0
        for who in ("trl", "ours"):
            for setup in ladder(who, method, on_gpu):
                figures = _run(method, setup, steps, warm_up)
                if figures is None:
                    print(f"| {method} | {who} | {setup.told()} | out of memory | | | |", flush=True)
                    continue
                base = base or figures.tokens_per_second
                mfu = "" if figures.mfu is None else f"{figures.mfu:.1%}"
                print(
                    f"| {method} | {who} | {setup.told()} | {figures.tokens_per_second:,.0f} | {mfu} "
                    f"| {figures.peak_bytes / 2**30:.1f} GiB | {figures.tokens_per_second / base:.2f} |",
                    flush=True,
                )
                told = f"\n{figures.device}; {figures.versions}; {warm_up} of {steps} steps not timed"
                break
    print(told)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description="Training speed against trl.")
    parser.add_argument("--methods", default="sft,dpo", help="sft, dpo, with a comma between")
    parser.add_argument("--steps", type=int, help="optimizer steps of a measurement; default 12 on a GPU, 5 on a CPU")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        return _measure_and_print(json.loads(given.measure))
    import torch

    on_gpu = torch.cuda.is_available()
    steps = given.steps or (12 if on_gpu else 5)
    methods = given.methods.split(",")
    if unknown := set(methods) - set(LONGEST):
        parser.error(f"unknown methods {', '.join(sorted(unknown))}; choose from {', '.join(LONGEST)}")
    if steps < 3:
        parser.error("--steps must be 3 or more: the first one or three are not timed")
    _table(methods, steps, 3 if steps > 6 else 1, on_gpu)
    return 0


if __name__ == "__main__":
    sys.exit(main())
