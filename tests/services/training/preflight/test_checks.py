"""The preflight as a whole: figures, refusals, files it leaves, and the page."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from services.training.batches import PairCollator
from services.training.chat_template import install
from services.training.data.prepared import PreparedData, prepare
from services.training.data.tokens import IGNORED
from services.training.preflight import Device, PreflightReport, run_preflight
from services.training.preflight.preview import SHOWN_TOKENS
from shared.artifacts.directory import DirectoryStore
from shared.domain.errors import InputRefused, MultifacetError
from shared.domain.training import TrainParameters
from shared.domain.training_preview import OMITTED, Preview
from tests.support.browser import browser_page
from tests.support.tiny_models import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
install(TOKENIZER)
CONFIG = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2,
    "intermediate_size": 160, "vocab_size": 1024,
}  # fmt: skip
CPU = Device("cpu", 8 * 2**30, "CPU")
ODD = "数字 😀é\n\n- <script>document.title = 'taken'</script> </s> \x1b[31m"


def rows(count: int = 12) -> list[dict[str, Any]]:
    texts = [{"system": f"Be {number}.", "prompt": "Say it.", "output": f"word {number}"} for number in range(count)]
    return [{"system": "", "prompt": ODD, "output": ODD}, *texts]


def parameters(method: str = "sft", **changes: Any) -> TrainParameters:
    base: dict[str, Any] = {
        "method": method,
        "base": {"random": "tiny-mistral"},
        "maximum_length": 512,
        "global_batch": 4,
    }
    return TrainParameters(**{**base, **changes})


def prepared(
    tmp_path: Path, options: TrainParameters, records: Iterable[dict[str, Any]], test: Any = None
) -> PreparedData:
    paths = []
    for name, lines in (("train", records), ("test", test)):
        paths.append(None if lines is None else tmp_path / f"{name}.jsonl")
        if lines is not None:
            (tmp_path / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    assert paths[0] is not None
    return prepare(options, TOKENIZER, paths[0], paths[1], tmp_path / "prepared")


def run(tmp_path: Path, options: TrainParameters, records: Iterable[dict[str, Any]], **changes: Any) -> PreflightReport:
    data = prepared(tmp_path, options, records, changes.pop("test", None))
    given: dict[str, Any] = {
        "tokenizer": TOKENIZER, "config": CONFIG, "device": CPU, "scratch": tmp_path / "scratch",
        "store": DirectoryStore(tmp_path / "store"), **changes,
    }  # fmt: skip
    return run_preflight(options, data=data, folder=tmp_path / "out", **given)


def pairs(count: int = 12) -> list[dict[str, Any]]:
    return [{**row, "chosen": row["output"], "rejected": "no"} for row in rows(count)]


def preview(tmp_path: Path) -> Preview:
    return msgspec.json.decode((tmp_path / "out" / "preview.json").read_bytes(), type=Preview)


def test_the_report_is_written_as_it_is_returned(tmp_path: Path) -> None:
    report = run(tmp_path, parameters(), rows())
    assert msgspec.json.decode((tmp_path / "out" / "preflight.json").read_bytes(), type=PreflightReport) == report
    assert (report.template, report.vocabulary, report.embedding_rows) == ("mistral", 1024, 1024)
    assert (report.bos.text, report.eos.id) == ("<s>", 2)
    assert report.store_checked
    assert report.disk is not None
    assert report.memory is not None
    assert report.recompute is False
    assert report.refused is None
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "per_epoch", "steps"),
    [
        ({}, 4, 4),
        ({"epochs": 2.5}, 4, 10),
        ({"maximum_steps": 3}, 4, 3),
        ({"global_batch": 13}, 1, 1),
        ({"global_batch": 6, "micro_batch": 3}, 3, 3),
    ],
)
def test_steps_are_those_that_the_trainer_will_count(
    tmp_path: Path, changes: dict[str, Any], per_epoch: int, steps: int
) -> None:
    report = run(tmp_path, parameters(packing=False, **changes), rows(12))
    assert (report.steps_per_epoch, report.steps) == (per_epoch, steps)
    assert report.tokens_per_step == pytest.approx(report.tokens_per_epoch / per_epoch)


def test_too_little_memory_is_refused_and_the_report_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="needs about"):
        run(tmp_path, parameters(), rows(), device=Device("cuda", 10_000, "a small GPU"))
    report = msgspec.json.decode((tmp_path / "out" / "preflight.json").read_bytes(), type=PreflightReport)
    assert report.refused is not None
    assert "a small GPU" in report.refused
    assert report.data.train.kept == 13
    assert "The training was refused" in (tmp_path / "out" / "preview.html").read_text()


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"token ids up to 1,023.*embedding has 1,000 rows") as refused:
        run(tmp_path, parameters(), rows(), config={**CONFIG, "vocab_size": 1000})
    assert refused.value.pointer == "/base"


@pytest.mark.parametrize("pad", [None, "</s>"])
def test_a_reward_model_needs_a_pad_token_of_its_own(tmp_path: Path, pad: str | None) -> None:
    tokenizer = tiny_tokenizer()
    install(tokenizer)
    tokenizer.pad_token = pad
    with pytest.raises(InputRefused, match="they must differ; set pad_token"):
        run(tmp_path, parameters("rm"), pairs(), tokenizer=tokenizer)
    run(tmp_path, parameters("dpo"), pairs(), tokenizer=tokenizer)
    tokenizer.pad_token = "<unk>"
    assert run(tmp_path, parameters("rm"), pairs(), tokenizer=tokenizer).pad.id == 0


def test_a_scratch_folder_that_cannot_be_written_is_the_workers_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MultifacetError, match=r"scratch folder .* cannot be written") as raised:
        run(tmp_path, parameters(), rows(), scratch=tmp_path / "file" / "scratch")
    assert not isinstance(raised.value, InputRefused)


def test_a_full_disk_is_told_with_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(MultifacetError, match=r"writes about .*two checkpoints and the model.* are free"):
        run(tmp_path, parameters(), rows())
    assert run(tmp_path, parameters(dry_run=True), rows()).disk is not None


def test_a_store_that_cannot_be_written_stops_the_training(tmp_path: Path) -> None:
    class Broken(DirectoryStore):
        async def check(self) -> None:
            raise MultifacetError("the store is away")

    with pytest.raises(MultifacetError, match="the store is away"):
        run(tmp_path, parameters(), rows(), store=Broken(tmp_path / "store"))


def test_an_unknown_architecture_is_noted_and_computed_twice(tmp_path: Path) -> None:
    report = run(tmp_path, parameters(), rows(), config={**CONFIG, "num_local_experts": 8})
    assert (report.memory, report.recompute) == (None, True)
    assert any("memory of this architecture is not known" in note for note in report.notes)


def test_lost_test_rows_are_noted(tmp_path: Path) -> None:
    report = run(tmp_path, parameters(), rows(), test=[*rows(3), {"prompt": "a", "output": ""}])
    assert any("1 of 5 test rows cannot be evaluated on: empty_response 1" in note for note in report.notes)


@pytest.mark.parametrize("packing", [True, False])
def test_the_preview_shows_rows_with_their_loss_mask(tmp_path: Path, packing: bool) -> None:
    run(tmp_path, parameters(packing=packing), rows())
    found = preview(tmp_path)
    assert {0, 1, 2, 3, 4} == set(found.special_ids)
    for row in found.rows:
        text = "".join(token.text for token in row.tokens)
        assert re.fullmatch(r"<s>\[INST\] (?s:.*) \[/INST\] (?s:.+)</s>", text)
        assert row.tokens[-1].text == "</s>"
        trained = [token for token in row.tokens if token.in_loss]
        assert "".join(token.text for token in trained) == text.partition(" [/INST]")[2]
        assert (row.length, row.loss_tokens) == (len(row.tokens), len(trained))
    odd = [row for row in found.rows if "😀" in "".join(token.text for token in row.tokens)]
    if not packing:
        assert "".join(token.text for token in odd[0].tokens) == f"<s>[INST] {ODD} [/INST] {ODD}</s>"
        assert any(token.text == "" for token in odd[0].tokens)


def test_both_sides_of_a_pair_are_shown(tmp_path: Path) -> None:
    run(tmp_path, parameters("dpo"), pairs())
    names = [row.name for row in preview(tmp_path).rows]
    assert names[:2] == ["pair 0, chosen", "pair 0, rejected"]
    assert "".join(token.text for token in preview(tmp_path).rows[1].tokens if token.in_loss) == " no</s>"


@pytest.mark.parametrize("method", ["dpo", "orpo"])
def test_the_prompt_of_the_chosen_side_is_marked_where_its_likelihood_is_learnt(tmp_path: Path, method: str) -> None:
    run(tmp_path, parameters(method), pairs())
    chosen, rejected = preview(tmp_path).rows[:2]
    (tmp_path / "again").mkdir()
    row = prepared(tmp_path / "again", parameters(method), pairs()).train[0]
    labels = PairCollator(learns_prompts=method == "orpo")([row])["labels"][0].tolist()
    assert [token.in_loss for token in (*chosen.tokens, *rejected.tokens)] == [label != IGNORED for label in labels]
    assert any(token.in_loss for token in chosen.tokens[:4]) is (method == "orpo")


def test_of_a_long_row_the_middle_is_left_out_and_counted(tmp_path: Path) -> None:
    run(tmp_path, parameters(maximum_length=4096), [{"prompt": "a", "output": "word " * 1000}])
    [row] = preview(tmp_path).rows
    [omitted] = [token for token in row.tokens if token.id == OMITTED]
    assert omitted.text == f" … {row.loss_tokens - SHOWN_TOKENS:,} tokens not shown … "
    assert omitted.in_loss


def test_the_page_shows_texts_as_texts_in_light_and_dark(tmp_path: Path) -> None:
    run(tmp_path, parameters(packing=False, maximum_lost_share=0.5), [*rows(), {"prompt": "a", "output": ""}])
    url = (tmp_path / "out" / "preview.html").as_uri()
    with browser_page(url) as page:
        page.goto(url)
        assert page.title() == "Training rows as tokens · sft"
        assert page.locator("script").count() == 0
        # Loss tokens can be told without colour.
        decoration = "element => getComputedStyle(element).textDecorationLine"
        assert page.locator(".tokens mark").nth(1).evaluate(decoration) == "underline"
        assert page.locator("section .tokens > i").first.evaluate(decoration) == "none"
        assert page.locator("section .tokens").first.locator("kbd").all_inner_texts() == [
            "<s>",
            "[INST]",
            "[/INST]",
            "</s>",
        ]
        shown = page.locator("section .tokens").first.inner_text()
        assert "<script>" in shown
        assert "␛[31m" in shown
        assert page.get_by_role("row").filter(has_text="empty_response").count() == 1
        colours = []
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            colours.append(page.locator("body").evaluate("element => getComputedStyle(element).backgroundColor"))
        assert len(set(colours)) == 2
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
