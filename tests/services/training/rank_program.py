"""What the processes of the test run: three steps of a method, then rank 0 writes weights and log. Arguments: method,
processes, output folder."""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from services.training.models.loading import load_base
from services.training.ranks import is_first, running_processes
from services.training.reference import compute_reference
from services.training.trainers.build import build_trainer
from tests.services.training.tiny import TEXTS, TinyData, packed, pair_rows, parameters, supervised_rows


def main(method: str, processes: int, folder: Path) -> None:
    assert running_processes() == processes
    chosen = parameters(method, processes=processes, micro_batch=1, maximum_steps=3, evaluate_every_steps=3)
    loaded = load_base(chosen, None, TEXTS)
    if method == "sft":
        # 9 packs in steps of 4: the last step holds one pack, and the second process a filler.
        data = TinyData(packed(supervised_rows(27), 3), packed(supervised_rows(5, 1), 2))
    else:
        data = TinyData(pair_rows(9), pair_rows(3, 1))
    reference = None
    if method == "dpo":
        reference = compute_reference(chosen, loaded.model, data.train, data.test, device=torch.device("cpu"))
    trainer = build_trainer(chosen, loaded.model, loaded.tokenizer, data, folder, [], reference)
    trainer.train()
    if is_first():
        save_file(loaded.model.state_dict(), folder / "weights.safetensors")
        (folder / "log.json").write_text(json.dumps(trainer.state.log_history))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
