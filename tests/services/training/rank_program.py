"""What the processes of the test run, case by case: a short training whose weights and log rank 0 writes."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from services.training import reference as reference_module
from services.training.batches import PairCollator
from services.training.fused_heads import end_scores, fuse_head, fuse_score, token_log_probabilities
from services.training.models.loading import load_base
from services.training.ranks import is_first, running_processes
from services.training.reference import compute_reference
from services.training.trainers.build import build_trainer
from tests.services.training.test_resume import StopAt
from tests.services.training.tiny import TEXTS, TinyData, packed, pair_rows, parameters, supervised_rows

CASES: dict[str, dict[str, Any]] = {
    "sft": {"method": "sft"},
    "dpo": {"method": "dpo"},
    "orpo-lora": {"method": "orpo", "tuning": "lora"},
    "rm-recomputed": {"method": "rm", "recompute": "always"},
}
STEPS = 3


def train(case: str, processes: int, folder: Path, stop: int | None = None, resume: int | None = None) -> None:
    """Train `case` into `folder / case`; stopped after a step, or on from the checkpoint of one."""
    chosen = parameters(
        processes=processes, micro_batch=1, maximum_steps=STEPS, evaluate_every_steps=STEPS, **CASES[case]
    )
    loaded = load_base(chosen, None, TEXTS)
    if chosen.method == "sft":
        # 9 packs in steps of 4: the last step holds one pack, and the second process a filler.
        data = TinyData(packed(supervised_rows(27), 3), packed(supervised_rows(5, 1), 2))
    else:
        data = TinyData(pair_rows(9), pair_rows(3, 1))
    reference = None
    if chosen.method == "dpo":
        reference = compute_reference(loaded.model, data.train, data.test, device=torch.device("cpu"))
    callbacks = [] if stop is None else [StopAt(stop)]
    trainer = build_trainer(chosen, loaded.model, loaded.tokenizer, data, folder / case, callbacks, reference)
    trainer.train(resume_from_checkpoint=None if resume is None else str(folder / case / f"checkpoint-{resume}"))
    trainer.save_model(str(folder / case / "model"))
    if is_first():
        (folder / case / "log.json").write_text(json.dumps(trainer.state.log_history))


def gradients_when_sharded(method: str, folder: Path) -> None:
    """The heads inside FSDP2's wrappers, which accelerate puts on for GPUs alone: largest difference to the plain model's."""
    batch = PairCollator()(list(pair_rows(3)))
    found: list[dict[str, torch.Tensor]] = []
    for is_sharded in (False, True):
        model = load_base(parameters(method), None, TEXTS).model
        (fuse_score if method == "rm" else fuse_head)(model)
        if is_sharded:
            for layer in model.model.layers:
                fully_shard(layer)
            fully_shard(model)
        values = end_scores(model, batch) if method == "rm" else token_log_probabilities(model, batch)
        values.square().mean().backward()
        grads = {name: weight.grad for name, weight in model.named_parameters()}
        found.append({name: grad.full_tensor() if isinstance(grad, DTensor) else grad for name, grad in grads.items()})
        assert isinstance(next(iter(grads.values())), DTensor) is is_sharded
    difference = max(float((grad - found[1][name]).abs().max()) for name, grad in found[0].items())
    if is_first():
        (folder / f"sharded-{method}").write_text(repr(difference))


def main(processes: int, folder: Path) -> None:
    """Every case, DPO once more, stopped after two steps and resumed, and the heads under sharding."""
    assert running_processes() == processes
    reference_module.PART_PAIRS = 4
    for case in CASES:
        train(case, processes, folder)
    train("dpo", processes, folder / "resumed", stop=2)
    train("dpo", processes, folder / "resumed", resume=2)
    for method in ("dpo", "rm"):
        gradients_when_sharded(method, folder)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
