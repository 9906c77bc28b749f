"""Batches without padding, and who computes which rows when."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from services.training.batches import FILLER, IGNORED, PairCollator, SupervisedCollator, model_inputs
from services.training.trainers.sampling import FILLER_INDEX, RankBatches, RankLoader
from tests.services.training.tiny import packed, pair_rows, supervised_rows

PAIR = {"prompt_ids": [1, 5, 6], "chosen_ids": [7, 2], "rejected_ids": [8, 9, 2]}
OTHER = {"prompt_ids": [1, 4], "chosen_ids": [3, 3, 2], "rejected_ids": [2]}


def test_a_pair_is_two_documents_with_the_chosen_one_first() -> None:
    batch = PairCollator()([PAIR, OTHER])
    assert batch["input_ids"].tolist() == [[1, 5, 6, 7, 2, 1, 5, 6, 8, 9, 2, 1, 4, 3, 3, 2, 1, 4, 2]]
    assert batch["position_ids"].tolist() == [[*range(5), *range(6), *range(5), *range(3)]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 5, 11, 16, 19]
    assert batch["cu_seq_lens_q"].dtype is torch.int32
    assert batch["max_length_q"] == 6
    no = IGNORED
    assert batch["labels"].tolist() == [[no, no, no, 7, 2, no, no, no, 8, 9, 2, no, no, 3, 3, 2, no, no, 2]]
    assert batch["response_lengths"] == [2, 3, 3, 1]
    assert batch["counts"] == {"items": 2, "tokens": 19, "squares": 25 + 36 + 25 + 9, "scored": 9}


def test_orpo_also_learns_the_prompt_of_the_chosen_document() -> None:
    labels = PairCollator(learns_prompts=True)([PAIR])["labels"][0].tolist()
    assert labels == [IGNORED, 5, 6, 7, 2, IGNORED, IGNORED, IGNORED, 8, 9, 2]


def test_a_filler_is_laid_out_and_counts_for_nothing() -> None:
    pairs = PairCollator()([{**PAIR, FILLER: True}])
    assert pairs["weights"].tolist() == [0]
    assert pairs["counts"] == {"items": 0, "tokens": 0, "squares": 0, "scored": 0}
    row = {**supervised_rows(1)[0], FILLER: True}
    batch = SupervisedCollator()([row])
    assert set(batch["labels"].flatten().tolist()) == {IGNORED}
    assert batch["counts"]["items"] == 0


def test_the_first_token_of_a_packed_document_is_never_learned() -> None:
    """Also where its label says so: it would be predicted from another document."""
    row = {"input_ids": [1, 5, 1, 6, 7], "labels": [1, 5, 1, 6, 7], "seq_lengths": [2, 3]}
    batch = SupervisedCollator()([row, row])
    assert batch["labels"].tolist() == [[IGNORED, 5, IGNORED, 6, 7] * 2]
    assert batch["position_ids"].tolist() == [[0, 1, 0, 1, 2] * 2]
    assert batch["counts"] == {"items": 6, "tokens": 10, "squares": 26, "scored": 6}


def test_the_model_is_given_no_mask_and_no_cache() -> None:
    inputs = model_inputs(PairCollator()([PAIR]))
    assert inputs["attention_mask"] is None
    assert inputs["use_cache"] is False
    assert "counts" not in inputs


@given(
    rows=st.integers(1, 60),
    micro_batch=st.integers(1, 5),
    processes=st.integers(1, 4),
    accumulation=st.integers(1, 4),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 3),
)
def test_every_step_holds_the_same_rows_however_many_processes_share_them(
    rows: int, micro_batch: int, processes: int, accumulation: int, seed: int, epoch: int
) -> None:
    def steps(processes: int, per_step: int) -> list[set[int]]:
        ranks = []
        for rank in range(processes):
            batches = RankBatches(rows, micro_batch, rank, processes, seed)
            batches.set_epoch(epoch)
            ranks.append(list(batches))
            assert len(ranks[-1]) == len(batches) == len(ranks[0])
        found = []
        for start in range(0, len(ranks[0]), per_step):
            step = [index for rank in ranks for batch in rank[start : start + per_step] for index in batch]
            real = [index for index in step if index != FILLER_INDEX]
            assert len(real) == len(set(real))
            found.append(set(real))
        return found

    shared = steps(processes, accumulation)
    assert shared == steps(1, accumulation * processes)
    assert set().union(*shared) == set(range(rows))


def test_epochs_and_seeds_change_the_order() -> None:
    batches = RankBatches(50, 1, 0, 1, 0)
    first = list(batches)
    assert first == list(batches)
    batches.set_epoch(1)
    assert first != list(batches)
    assert first != list(RankBatches(50, 1, 0, 1, 1))
    assert list(RankBatches(3, 2, 0, 1, None)) == [[0, 1], [2]]


def test_reading_batches_leaves_torchs_random_state_as_it_was() -> None:
    """Else an evaluation in between would change what a resumed training draws."""
    before = torch.get_rng_state()
    for _ in RankLoader(pair_rows(4), PairCollator(), RankBatches(4, 2, 0, 1, 0), pin_memory=False):
        pass
    assert torch.equal(before, torch.get_rng_state())


def test_packed_and_unpacked_rows_count_the_same_tokens() -> None:
    rows = supervised_rows(6)
    apart = SupervisedCollator()(list(rows))
    together = SupervisedCollator()(list(packed(rows, 3)))
    assert apart["counts"] == together["counts"]
    assert torch.equal(apart["labels"], together["labels"])
