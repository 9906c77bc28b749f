"""Reference log-probabilities: computed once, stored under what they are of."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.training import reference as reference_module
from services.training.batches import PairCollator
from services.training.checkpoints.blocking_store import BlockingStore
from services.training.fused_heads import fuse_head, own_model, token_log_probabilities
from services.training.models.loading import LoadedModel, load_base
from services.training.reference import StoredParts, compute_reference, reference_key, with_reference
from services.training.trainers.build import build_trainer
from shared.artifacts.directory import DirectoryStore
from tests.services.training.tiny import TEXTS, TinyData, pair_rows, parameters

CPU = torch.device("cpu")


def base(**values: Any) -> LoadedModel:
    return load_base(parameters("dpo", **values), None, TEXTS)


def test_they_are_the_sums_over_the_responses_whatever_the_batches() -> None:
    rows = pair_rows(7)
    model = base().model
    found = [
        compute_reference(model, rows, None, device=CPU, tokens_per_batch=tokens).train for tokens in (1, 60, 10**6)
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
    plain = compute_reference(base().model, rows, None, device=CPU)
    found = compute_reference(adapted, rows, None, device=CPU)
    assert np.abs(found.train.chosen - plain.train.chosen).max() < 1e-4


def test_the_models_forward_is_left_as_it_was() -> None:
    model = base().model
    compute_reference(model, pair_rows(2), None, device=CPU)
    assert "forward" not in own_model(model).__dict__


class Stopped(Exception):
    pass


def test_a_stopped_computation_goes_on_after_its_last_whole_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_module, "PART_PAIRS", 4)
    rows, test = pair_rows(10), pair_rows(3, seed=1)
    model = base().model
    whole = compute_reference(model, rows, test, device=CPU, tokens_per_batch=1)
    assert whole.computed == 13
    told: list[tuple[int, int]] = []

    def watch(done: int, total: int) -> None:
        told.append((done, total))
        if done == 6:
            raise Stopped

    folder = tmp_path / "cache" / "project" / "reference-log-probabilities" / "key"
    with BlockingStore(DirectoryStore(tmp_path)) as store:
        parts = StoredParts(store, "project", "key")
        with pytest.raises(Stopped):
            compute_reference(model, rows, test, device=CPU, tokens_per_batch=1, parts=parts, watch=watch)
        assert "forward" not in own_model(model).__dict__
        assert [path.name for path in folder.iterdir()] == ["train-00000.safetensors"]
        assert told[-1] == (6, 13)
        second = compute_reference(model, rows, test, device=CPU, tokens_per_batch=1, parts=parts)
        assert second.computed == 9
        (folder / "test-00000.safetensors").write_bytes(b"torn")
        third = compute_reference(model, rows, test, device=CPU, tokens_per_batch=1, parts=parts)
        assert third.computed == 3
        fourth = compute_reference(model, rows, test, device=CPU, tokens_per_batch=1, parts=parts)
        assert fourth.computed == 0
    for found in (second, third, fourth):
        for one, other in ((found.train, whole.train), (found.test, whole.test)):
            assert one is not None
            assert other is not None
            assert np.array_equal(one.chosen, other.chosen)
            assert np.array_equal(one.rejected, other.rejected)


def test_parts_of_another_number_of_pairs_are_not_taken(tmp_path: Path) -> None:
    with BlockingStore(DirectoryStore(tmp_path)) as store:
        parts = StoredParts(store, "project", "key")
        compute_reference(base().model, pair_rows(4), None, device=CPU, parts=parts)
        assert compute_reference(base().model, pair_rows(5), None, device=CPU, parts=parts).computed == 5


def test_the_key_changes_with_base_pairs_and_numerics_and_with_nothing_else() -> None:
    def key(base: str = "base", data: tuple[str | None, ...] = ("train", "test"), **values: Any) -> str:
        return reference_key(parameters("dpo", **values), base, data)

    assert key() == key(beta=0.5, learning_rate=1e-6, seed=3) == key(tuning="lora")
    others = [
        key(base="other"),
        key(data=("test", "train")),
        key(data=("train", None)),
        key(attention="sdpa"),
        key(precision="bf16"),
        key(tuning="qlora"),
    ]
    assert len({key(), *others}) == 7


def test_too_few_log_probabilities_are_refused() -> None:
    reference = compute_reference(base().model, pair_rows(3), None, device=CPU)
    with pytest.raises(ValueError, match="for 3 pairs, but 4 pairs"):
        with_reference(pair_rows(4), reference.train)
    with pytest.raises(ValueError, match="for 0 pairs"):
        with_reference(pair_rows(4), None)


@pytest.mark.parametrize("method", ["dpo", "orpo"])
def test_dpo_needs_them_and_no_other_method_takes_them(method: str, tmp_path: Path) -> None:
    rows = pair_rows(4)
    loaded = base()
    reference = None if method == "dpo" else compute_reference(loaded.model, rows, None, device=CPU)
    with pytest.raises(ValueError, match="dpo needs them"):
        build_trainer(parameters(method), loaded.model, loaded.tokenizer, TinyData(rows), tmp_path, [], reference)
