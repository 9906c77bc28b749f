"""Reference log-probabilities: computed once, stored under what they are of."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from services.training.batches import PairCollator
from services.training.fused_heads import fuse_head, own_model, token_log_probabilities
from services.training.models.loading import LoadedModel, load_base
from services.training.reference import (
    compute_reference,
    data_fingerprint,
    file_name,
    load_reference,
    model_fingerprint,
    reference_key,
    save_reference,
    with_reference,
)
from services.training.trainers.build import build_trainer
from tests.services.training.tiny import TEXTS, TinyData, pair_rows, parameters

CPU = torch.device("cpu")


def base(**values: Any) -> LoadedModel:
    return load_base(parameters("dpo", **values), None, TEXTS)


def test_they_are_the_sums_over_the_responses_whatever_the_batches() -> None:
    rows = pair_rows(7)
    model = base().model
    found = [
        compute_reference(parameters("dpo"), model, rows, None, device=CPU, tokens_per_batch=tokens, key="k").train
        for tokens in (1, 60, 10**6)
    ]
    fuse_head(model)
    for index, row in enumerate(rows):
        batch = PairCollator()([row])
        with torch.no_grad():
            values = token_log_probabilities(model, batch)
        bound = len(row["prompt_ids"]) + len(row["chosen_ids"]) - 1
        assert found[0].chosen[index] == pytest.approx(values[:bound].sum().item(), abs=1e-4)
        assert found[0].rejected[index] == pytest.approx(values[bound:].sum().item(), abs=1e-4)
    for other in found[1:]:
        assert np.abs(other.chosen - found[0].chosen).max() < 1e-4
        assert np.abs(other.rejected - found[0].rejected).max() < 1e-4


def test_adapters_are_off_for_the_reference() -> None:
    rows = pair_rows(3)
    adapted = base(tuning="lora").model
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(weight, 0.1)
    plain = compute_reference(parameters("dpo"), base().model, rows, None, device=CPU)
    found = compute_reference(parameters("dpo"), adapted, rows, None, device=CPU)
    assert np.abs(found.train.chosen - plain.train.chosen).max() < 1e-4
    assert found.key == plain.key


def test_the_models_forward_is_left_as_it_was() -> None:
    model = base().model
    compute_reference(parameters("dpo"), model, pair_rows(2), None, device=CPU)
    assert "forward" not in own_model(model).__dict__


def test_a_stored_file_reads_back_and_another_key_is_refused(tmp_path: Path) -> None:
    rows, test = pair_rows(4), pair_rows(2, seed=1)
    reference = compute_reference(parameters("dpo"), base().model, rows, test, device=CPU)
    path = save_reference(reference, tmp_path / "new")
    assert path.name == file_name(reference.key)
    again = load_reference(path, reference.key)
    assert np.array_equal(again.train.chosen, reference.train.chosen)
    assert again.test is not None
    assert reference.test is not None
    assert np.array_equal(again.test.rejected, reference.test.rejected)
    with pytest.raises(ValueError, match="compute them again"):
        load_reference(path, "0" * 64)


def test_the_key_changes_with_weights_pairs_order_and_numerics_and_with_nothing_else() -> None:
    rows = pair_rows(4)

    def key(rows: Dataset = rows, seed: int = 0, **values: Any) -> str:
        model = load_base(parameters("dpo", seed=seed), None, TEXTS).model
        return reference_key(parameters("dpo", **values), model, rows, None)

    assert key() == key(beta=0.5, learning_rate=1e-6)
    others = [
        key(seed=1),
        key(rows.select([1, 0, 2, 3])),
        key(pair_rows(4, seed=2)),
        key(attention="sdpa"),
        key(precision="bf16"),
    ]
    assert len({key(), *others}) == 6


def test_a_single_weight_changes_the_models_fingerprint_and_a_boundary_the_datas() -> None:
    model = base().model
    before = model_fingerprint(model)
    with torch.no_grad():
        model.lm_head.weight[3, 5] += 1e-3
    assert model_fingerprint(model) != before
    one = Dataset.from_list([{"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4]}])
    two = Dataset.from_list([{"prompt_ids": [1], "chosen_ids": [2, 3], "rejected_ids": [4]}])
    assert data_fingerprint(one) != data_fingerprint(two)


def test_too_few_log_probabilities_are_refused() -> None:
    reference = compute_reference(parameters("dpo"), base().model, pair_rows(3), None, device=CPU)
    with pytest.raises(ValueError, match="for 3 pairs, but 4 pairs"):
        with_reference(pair_rows(4), reference.train)
    with pytest.raises(ValueError, match="for 0 pairs"):
        with_reference(pair_rows(4), None)


@pytest.mark.parametrize("method", ["dpo", "orpo"])
def test_dpo_needs_them_and_no_other_method_takes_them(method: str, tmp_path: Path) -> None:
    rows = pair_rows(4)
    loaded = base()
    reference = None if method == "dpo" else compute_reference(parameters("dpo"), loaded.model, rows, None, device=CPU)
    with pytest.raises(ValueError, match="dpo needs them"):
        build_trainer(parameters(method), loaded.model, loaded.tokenizer, TinyData(rows), tmp_path, [], reference)
