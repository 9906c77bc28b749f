"""From a file of rows to tokens: what each method gets, what is drawn, what is lost and counted, how rows pack."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.training.chat_template import install
from services.training.data.counts import LOSSES, length_figures
from services.training.data.prepared import PreparedData, load_prepared, prepare
from shared.domain.errors import InputRefused
from shared.domain.training import TrainParameters
from tests.support.tiny_models import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
install(TOKENIZER)
Row = dict[str, Any]


def write(path: Path, rows: Iterable[Row]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def parameters(method: str = "sft", **changes: Any) -> TrainParameters:
    return TrainParameters(
        **{"method": method, "base": {"random": "tiny-mistral"}, "maximum_length": 256, **changes}  # type: ignore[arg-type]
    )


def prepared(
    tmp_path: Path, rows: Iterable[Row], method: str = "sft", test: Iterable[Row] | None = None, **changes: Any
) -> PreparedData:
    test_path = None if test is None else write(tmp_path / "test.jsonl", test)
    train_path = write(tmp_path / "train.jsonl", rows)
    return prepare(parameters(method, **changes), TOKENIZER, train_path, test_path, tmp_path / "prepared")


def sft_rows(count: int, words: int = 6) -> list[Row]:
    return [
        {
            "system": f"You are person {number}.",
            "prompt": f"Question {number}",
            "output": "word " * (words + number % 7),
        }
        for number in range(count)
    ]


def pair_rows(count: int) -> list[Row]:
    return [{**row, "chosen": row["output"], "rejected": "no"} for row in sft_rows(count)]


def text(ids: list[int]) -> str:
    return str(TOKENIZER.decode(ids))


def test_sft_rows_have_a_loss_on_response_and_eos_alone(tmp_path: Path) -> None:
    rows = [
        {"system": "S\nT", "prompt": "I\nJ", "output": "R\nQ"},
        {"system": "", "prompt": "</s>", "output": "[INST] <s>"},
    ]
    data = prepared(tmp_path, rows, packing=False)
    shown = [
        (text([token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label == -100]),
         text([label for label in row["labels"] if label != -100]))
        for row in data.train
    ]  # fmt: skip
    assert shown == [("<s>[INST] S\nT\nI\nJ [/INST]", " R\nQ</s>"), ("<s>[INST] </s> [/INST]", " [INST] <s></s>")]
    assert all(row["input_ids"].count(TOKENIZER.bos_token_id) == 1 for row in data.train)
    assert all(row["input_ids"].count(TOKENIZER.eos_token_id) == 1 for row in data.train)
    assert all(
        label in (-100, token)
        for row in data.train
        for token, label in zip(row["input_ids"], row["labels"], strict=True)
    )


@pytest.mark.parametrize("method", ["dpo", "orpo", "rm"])
def test_each_side_of_a_pair_ends_with_eos_after_a_prompt_with_one_bos(tmp_path: Path, method: str) -> None:
    rows = [{"system": "S", "prompt": "I", "chosen": "good\n</s>", "rejected": "bad"}]
    [row] = prepared(tmp_path, rows, method).train
    assert text(row["prompt_ids"]) == "<s>[INST] S\nI [/INST]"
    assert (text(row["chosen_ids"]), text(row["rejected_ids"])) == (" good\n</s></s>", " bad</s>")
    for side in (row["chosen_ids"], row["rejected_ids"]):
        assert (row["prompt_ids"] + side).count(TOKENIZER.bos_token_id) == 1
        assert (row["prompt_ids"] + side).count(TOKENIZER.eos_token_id) == 1


def test_the_reward_layout_has_the_tokens_of_the_pairs_layout(tmp_path: Path) -> None:
    joined = prepared(tmp_path, [{"input": "S\nI", "chosen": "good", "rejected": "bad"}], "rm").train[0]
    apart = [{"system": "S", "prompt": "I", "chosen": "good", "rejected": "bad"}]
    assert joined == prepared(tmp_path, apart, "dpo").train[0]


def test_parquet_and_jsonl_give_the_same_tokens(tmp_path: Path) -> None:
    rows = sft_rows(30)
    from_lines = prepared(tmp_path, rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    from_parquet = prepare(parameters(), TOKENIZER, tmp_path / "train.parquet", None, tmp_path / "other")
    assert from_parquet.train[:] == from_lines.train[:]
    assert from_parquet.counts == from_lines.counts


def test_every_lost_row_is_counted_by_its_reason_and_named(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "chosen": "same", "rejected": "same"},
        {"prompt": "a", "chosen": "b", "rejected": "word " * 400},
        {"prompt": "word " * 400, "chosen": "b", "rejected": "c"},
        {"prompt": " ", "chosen": "b", "rejected": "c"},
        {"prompt": "a", "chosen": "", "rejected": "c"},
        {"prompt": "a", "chosen": 1, "rejected": "c"},
        {"prompt": "a\U0010fffd", "chosen": "b", "rejected": "c"},
        {"prompt": [{"role": "assistant", "content": "x"}, {"role": "user", "content": "a"}], "chosen": "b", "rejected": "c"},
        {"prompt": "a", "chosen": "b"},
        {"prompt": "a", "chosen": "b", "rejected": "c"},
    ]  # fmt: skip
    path = write(tmp_path / "train.jsonl", rows)
    with path.open("ab") as file:
        file.write(b"{broken\n")
    counts = prepare(parameters("dpo", maximum_lost_share=1), TOKENIZER, path, None, tmp_path / "out").counts.train
    expected = {
        "identical_pair": [0], "too_long": [1], "prompt_too_long": [2], "empty_prompt": [3], "empty_response": [4],
        "wrong_form": [5, 8], "reserved_text": [6], "template": [7], "unreadable": [10],
    }  # fmt: skip
    assert counts.lost_rows == expected
    assert counts.lost == {reason: len(numbers) for reason, numbers in expected.items()}
    assert (counts.rows, counts.drawn, counts.kept) == (11, 11, 1)
    assert set(counts.lost) <= set(LOSSES)


def test_a_prompt_with_two_beginnings_is_lost_as_double_bos(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    install(tokenizer)
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    path = write(tmp_path / "train.jsonl", sft_rows(3))
    with pytest.raises(InputRefused, match="double_bos 3"):
        prepare(parameters(), tokenizer, path, None, tmp_path / "out")


def test_a_row_that_just_fits_is_kept_and_one_token_less_loses_it(tmp_path: Path) -> None:
    row = {"prompt": "a", "output": "word " * 20}
    length = len(prepared(tmp_path, [row], packing=False).train[0]["input_ids"])
    assert prepared(tmp_path, [row], maximum_length=length).counts.train.kept == 1
    with pytest.raises(
        InputRefused, match=f"all 1 training rows are longer.*set maximum_length to {length} to keep all"
    ):
        prepared(tmp_path, [row], maximum_length=length - 1)


def test_more_losses_than_allowed_are_refused_with_reasons_rows_and_the_length_that_keeps_them(tmp_path: Path) -> None:
    rows = [*sft_rows(289), *[{"prompt": "a", "output": "word " * (400 + number)} for number in range(10)],
            {"prompt": "a", "output": ""}]  # fmt: skip
    with pytest.raises(InputRefused) as refused:
        prepared(tmp_path, rows)
    said = str(refused.value)
    assert "11 of 300 training rows (3.7%) cannot be trained on, above maximum_lost_share 0.01" in said
    assert "too_long 10 (rows 289, 290, 291, 292, 293, …)" in said
    assert "empty_response 1 (row 299)" in said
    longest = prepared(tmp_path, rows, maximum_lost_share=0.04).counts.train.lengths["whole"]
    assert f"set maximum_length to {longest.maximum} to keep all of them, or to {longest.p99} for 99 of 100" in said
    assert refused.value.pointer == "/maximum_length"
    assert prepared(tmp_path, rows, maximum_length=longest.maximum).counts.train.lost == {"empty_response": 1}


def test_faulty_texts_are_refused_at_the_data_not_at_the_length(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="identical_pair 2") as refused:
        prepared(tmp_path, [{"prompt": "a", "chosen": "b", "rejected": "b"}] * 2, "dpo")
    assert refused.value.pointer == "/data"


@pytest.mark.parametrize("content", [b"", b"\n", b"[]"])
def test_no_row_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.jsonl").write_bytes(content)
    with pytest.raises(InputRefused, match=r"no row|nothing but white space"):
        prepare(parameters(), TOKENIZER, tmp_path / "train.jsonl", None, tmp_path / "out")


def test_columns_of_another_method_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="columns output, prompt, system, but dpo needs prompt, chosen, rejected"):
        prepared(tmp_path, sft_rows(3), "dpo")


def test_test_rows_are_drawn_by_their_own_number(tmp_path: Path) -> None:
    limits = {"maximum_rows": 7, "maximum_test_rows": 3, "packing": False}
    data = prepared(tmp_path, sft_rows(20), test=sft_rows(12), **limits)
    assert data.test is not None
    assert (len(data.train), len(data.test)) == (7, 3)


def test_one_message_per_instruction_keeps_one_row_of_each_prompt_by_seed(tmp_path: Path) -> None:
    rows = [
        {"system": f"Person {facet}", "prompt": f"Question {number}", "output": "yes"}
        for number in range(40)
        for facet in range(3)
    ]

    def drawn(seed: int) -> list[str]:
        data = prepared(tmp_path, rows, one_message_per_instruction=True, packing=False, seed=seed)
        assert (data.counts.train.rows, data.counts.train.drawn) == (120, 40)
        return [text(row["input_ids"]) for row in data.train]

    first = drawn(0)
    assert sorted(Counter(one.split("\n")[1] for one in first).values()) == [1] * 40
    assert len({one.split("\n")[0] for one in first}) == 3
    assert drawn(0) == first
    assert drawn(1) != first


def test_maximum_rows_draws_by_seed_and_spares_the_test_rows(tmp_path: Path) -> None:
    def drawn(seed: int) -> list[str]:
        data = prepared(tmp_path, sft_rows(50), test=sft_rows(20), maximum_rows=10, packing=False, seed=seed)
        assert (data.counts.train.kept, len(data.train)) == (10, 10)
        assert data.test is not None
        assert len(data.test) == 20
        return [text(row["input_ids"]) for row in data.train]

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)
    assert len(prepared(tmp_path, sft_rows(5), maximum_rows=10, packing=False).train) == 5


def test_packs_hold_every_row_whole_and_once_and_are_nearly_full(tmp_path: Path) -> None:
    rows = Counter(
        (tuple(row["input_ids"]), tuple(row["labels"]))
        for row in prepared(tmp_path, sft_rows(300), packing=False).train
    )
    data = prepared(tmp_path, sft_rows(300))
    unpacked: Counter[Any] = Counter()
    for pack in data.train:
        assert len(pack["input_ids"]) == len(pack["labels"]) == sum(pack["seq_lengths"]) <= 256
        start = 0
        for length in pack["seq_lengths"]:
            part = slice(start, start + length)
            unpacked[tuple(pack["input_ids"][part]), tuple(pack["labels"][part])] += 1
            start += length
    assert unpacked == rows
    packing = data.counts.packing
    assert packing is not None
    assert packing.sequences == len(data.train) == data.counts.sequences
    assert packing.rows_per_sequence == pytest.approx(300 / len(data.train))
    assert packing.most_rows == max(len(pack["seq_lengths"]) for pack in data.train)
    assert packing.fill_share == pytest.approx(data.counts.train.tokens / (len(data.train) * 256))
    assert packing.fill_share > 0.9


def test_the_same_seed_packs_alike_and_another_one_does_not(tmp_path: Path) -> None:
    first = prepared(tmp_path, sft_rows(200)).train[:]
    assert prepared(tmp_path, sft_rows(200)).train[:] == first
    assert prepared(tmp_path, sft_rows(200), seed=1).train[:] != first


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_another_process_reads_what_was_prepared(tmp_path: Path, method: str) -> None:
    rows = sft_rows(20) if method == "sft" else pair_rows(20)
    data = prepared(tmp_path, rows, method, test=rows[:5])
    again = load_prepared(tmp_path / "prepared")
    assert again.counts == data.counts
    assert again.train[:] == data.train[:]
    assert again.test is not None
    assert data.test is not None
    assert again.test[:] == data.test[:]


def test_a_folder_that_was_prepared_in_before_holds_the_new_rows_alone(tmp_path: Path) -> None:
    prepared(tmp_path, sft_rows(20), test=sft_rows(5))
    data = prepared(tmp_path, sft_rows(7), packing=False)
    assert len(data.train) == len(load_prepared(tmp_path / "prepared").train) == 7
    assert load_prepared(tmp_path / "prepared").test is None


def test_figures_are_those_of_the_tokens(tmp_path: Path) -> None:
    data = prepared(tmp_path, pair_rows(10), "dpo")
    rows = list(data.train)
    counts = data.counts
    both = [2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows]
    assert counts.train.tokens == sum(both)
    assert counts.train.loss_tokens == sum(len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows)
    assert counts.longest_tokens == max(both)
    assert counts.train.lengths["prompt"].maximum == max(len(row["prompt_ids"]) for row in rows)
    assert counts.packing is None


@pytest.mark.parametrize("lost", [[], [{"prompt": "a", "output": ""}]])
def test_a_test_file_without_usable_rows_is_no_test_split(tmp_path: Path, lost: list[Row]) -> None:
    data = prepared(tmp_path, sft_rows(3), test=lost)
    assert data.test is None
    assert (data.counts.test is None) == (not lost)


def test_the_digest_tells_other_tokens_apart(tmp_path: Path) -> None:
    digests = {prepared(tmp_path, sft_rows(5), packing=packing).counts.train.digest for packing in (True, False)}
    assert len(digests) == 1
    other = sft_rows(5)
    other[4]["output"] += "x"
    assert prepared(tmp_path, other).counts.train.digest not in digests


def test_nothing_is_written_outside_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    data = prepared(tmp_path, sft_rows(50), test=sft_rows(5))
    assert list(home.iterdir()) == []
    files = [Path(one["filename"]) for one in data.train.cache_files]
    assert files
    assert all(file.parent == tmp_path / "prepared" for file in files)


def test_percentiles_and_buckets_are_those_of_a_sorted_list() -> None:
    figures = length_figures(list(range(1, 101)))
    assert figures is not None
    assert (figures.p50, figures.p95, figures.p99, figures.maximum, figures.mean) == (50, 95, 99, 100, 50.5)
    assert figures.bounds == [16, 24, 32, 48, 64, 96, 128]
    assert figures.counts == [16, 8, 8, 16, 16, 32, 4]
    assert length_figures([]) is None
