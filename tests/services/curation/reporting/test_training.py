"""The report tells what was trained from what on what, and calls a trial a trial."""

import re
from pathlib import Path

import orjson
import pytest

from services.curation.reporting.report import run
from shared.domain.ledger import Ledger
from shared.stages.protocol import InputObject
from tests.services.curation.assembly.synthetic import make_context, make_rows
from tests.services.curation.reporting.finished import report_context
from tests.support.trained import DPO, PREFLIGHT, SFT, trained, training_facts


def _report(
    folder: Path, inputs: list[InputObject], order: tuple[str, ...] = ("sft", "dpo"), simulator: bool = False
) -> str:
    context = make_context(
        folder,
        inputs,
        stage="report",
        stage_ledgers={name: Ledger() for name in order},
        facts={"teacher_is_simulator": simulator},
    )
    run(context)
    return (context.output_folder / "report.html").read_text()


def _text(html: str) -> str:
    return " ".join(re.sub(r"<script.*?</script>|<[^>]*>", " ", html, flags=re.DOTALL).split())


def test_a_job_of_trainings_alone_has_a_report_of_them_and_no_data_card(tmp_path: Path) -> None:
    inputs = [
        *trained(tmp_path, DPO, facts=training_facts(DPO, random_base=False)),
        *trained(tmp_path, SFT, facts=training_facts(SFT)),
    ]
    context = make_context(tmp_path, inputs, stage="report", stage_ledgers={"sft": Ledger(), "dpo": Ledger()}, facts={})
    result = run(context)
    assert [(output.name, output.kind, output.job_level) for output in result.outputs] == [
        ("report.html", "report", True)
    ]
    page = (context.output_folder / "report.html").read_text()
    assert page.index('id="training-sft"') < page.index('id="training-dpo"')
    text = _text(page)
    assert "Supervised fine-tuning (SFT) of all weights, from tiny-mistral with random weights" in text
    assert "Direct preference optimisation (DPO) of all weights, from the model of training sft" in text
    assert "rows 240 rows held out 60 steps 20 tokens 80,000 time 31 s" in text


def test_a_collection_that_was_trained_on_tells_both_in_report_and_card(tmp_path: Path) -> None:
    whole = report_context(tmp_path, make_rows(8))
    inputs = [*whole.inputs, *trained(tmp_path, SFT, facts=training_facts(SFT))]
    context = make_context(
        tmp_path, inputs, stage="report", stage_ledgers=dict(whole.stage_ledgers), facts=dict(whole.facts)
    )
    result = run(context)
    assert result.summary["trainings"] == 1
    assert {output.name for output in result.outputs} == {"report.html", "README.md", "sample.jsonl", "statistics.json"}
    page = (context.output_folder / "report.html").read_text()
    assert '<a href="#training">' in page
    assert page.index('id="curation"') < page.index('id="training"') < page.index('id="examples"')
    assert "texts of the simulator" in _text(page)
    card = (context.output_folder / "README.md").read_text()
    assert r"| sft | supervised fine-tuning \(SFT\) of all weights | tiny-mistral with random weights (a trial" in card


def test_a_collection_without_trainings_has_no_section_of_them(tmp_path: Path) -> None:
    context = report_context(tmp_path, make_rows(6))
    run(context)
    assert "#training" not in (context.output_folder / "report.html").read_text()
    assert "Models trained" not in (context.output_folder / "README.md").read_text()


@pytest.mark.parametrize("random_base", [True, False])
def test_only_a_model_from_random_weights_is_called_one(tmp_path: Path, random_base: bool) -> None:
    page = _text(_report(tmp_path, trained(tmp_path, SFT, facts=training_facts(SFT, random_base=random_base))))
    assert ("started from random weights" in page) is random_base


def test_what_goes_on_from_a_model_of_random_weights_is_called_a_trial_too(tmp_path: Path) -> None:
    inputs = [
        *trained(tmp_path, DPO, facts=training_facts(DPO, random_base=True)),
        *trained(tmp_path, SFT, facts=training_facts(SFT)),
    ]
    first, second = _report(tmp_path, inputs).split('id="training-dpo"')
    assert "goes on from" not in first
    assert "It goes on from the model of training sft, which had random weights" in second


def test_simulated_texts_of_the_own_collection_are_told_and_foreign_data_are_not_blamed(tmp_path: Path) -> None:
    other = SFT.model_validate({**SFT.model_dump(exclude={"data"}), "name": "other", "data": {"job": "job_abc"}})
    inputs = [
        *trained(tmp_path, SFT, facts=training_facts(SFT)),
        *trained(tmp_path, other, facts=training_facts(other)),
    ]
    own, foreign = _report(tmp_path, inputs, ("sft", "other"), simulator=True).split('id="training-other"')
    assert "texts of the simulator" in own
    assert "texts of the simulator" not in foreign
    assert "the collection of job_abc" in foreign


def test_curves_show_training_and_evaluation_of_pairs(tmp_path: Path) -> None:
    page = _report(tmp_path, trained(tmp_path, DPO, facts=training_facts(DPO, random_base=False)))
    blocks = dict(re.findall(r'id="figure-(dpo-\w+)">(.*?)</script>', page, flags=re.DOTALL))
    assert list(blocks) == [
        f"dpo-{name}" for name in ("loss", "accuracy", "margin", "learning_rate", "gradient_norm", "speed")
    ]
    assert [trace["name"] for trace in orjson.loads(blocks["dpo-loss"])["data"]] == ["training", "evaluation"]


def test_an_interrupted_training_says_where_it_went_on(tmp_path: Path) -> None:
    page = _text(_report(tmp_path, trained(tmp_path, SFT, facts=training_facts(SFT, resumed_from=[10, 15]))))
    assert "went on from the checkpoint of step 10, then of step 15" in page


def test_metrics_stand_beside_those_of_held_out_rows(tmp_path: Path) -> None:
    page = _text(_report(tmp_path, trained(tmp_path, SFT, facts=training_facts(SFT))))
    assert "loss 1.5300 1.7100" in page
    assert "norm of the gradient 1.15 –" in page


def test_hostile_names_are_text(tmp_path: Path) -> None:
    facts = training_facts(SFT, device="<script>alert(1)</script>", base={"hub": "<img src=x>"}, random_base=False)
    page = _report(tmp_path, trained(tmp_path, SFT, facts=facts))
    assert "<script>alert" not in page
    assert "<img" not in page


def test_rows_that_are_not_trained_on_are_counted_by_reason(tmp_path: Path) -> None:
    page = _text(_report(tmp_path, trained(tmp_path, SFT, facts=training_facts(SFT), preflight=PREFLIGHT)))
    table = page.split("Rows before the first step")[1]
    for line in (
        "rows of the data 260 61",
        "drawn of them 250 61",
        "not used: too long 7 0",
        "not used: empty response 3 0",
        "not used: double bos 0 1",
        "used 240 60",
        "packed into 41 –",
        "0.50 GB of memory for one process, of 8.0 GB (CPU)",
        "leaves out what Python itself holds",
    ):
        assert line in table


def test_lengths_in_tokens_are_drawn_from_the_first_length_that_occurs(tmp_path: Path) -> None:
    page = _report(tmp_path, trained(tmp_path, SFT, facts=training_facts(SFT), preflight=PREFLIGHT))
    block = re.search(r'id="figure-sft-lengths">(.*?)</script>', page, flags=re.DOTALL)
    assert block is not None
    figure = orjson.loads(block[1])
    assert [trace["name"] for trace in figure["data"]] == ["prompt", "response", "prompt and response"]
    assert figure["data"][0]["x"] == [24, 24, 32, 48, 64]
    assert figure["layout"]["xaxis"]["title"]["text"] == "tokens"


def test_data_without_held_out_rows_or_packs_are_told_without(tmp_path: Path) -> None:
    data = {**PREFLIGHT["data"], "test": None, "packing": None}
    preflight = {**PREFLIGHT, "data": data, "memory": None}
    page = _text(_report(tmp_path, trained(tmp_path, DPO, facts=training_facts(DPO), preflight=preflight)))
    assert "used 240 –" in page
    assert "packed into" not in page
    assert "Estimated before" not in page


def test_a_dry_run_shows_its_checks_and_says_that_nothing_was_trained(tmp_path: Path) -> None:
    page = _text(_report(tmp_path, trained(tmp_path, SFT, preflight=PREFLIGHT)))
    assert "Only the checks ran; nothing was trained." in page
    assert "used 240 60" in page
    assert "no curves" not in page
