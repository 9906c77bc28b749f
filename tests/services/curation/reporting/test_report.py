"""The report opens without a network, shows hostile text as text, and the card describes what is there."""

import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import datasets
import msgspec
import orjson
import pytest
import yaml
from playwright.sync_api import sync_playwright

from services.curation.reporting.card import markdown_text
from services.curation.reporting.flow import flow_of
from services.curation.reporting.report import run
from shared.domain.errors import StepFailed
from shared.domain.jobs import ModelChoice, SplitParameters
from shared.domain.ledger import Ledger
from shared.domain.rows import HARMFUL_INTENT_TAG
from shared.pages.one_file import json_block
from shared.stages.protocol import WholeContext
from tests.services.curation.assembly.synthetic import make_context, make_rows, make_spec
from tests.services.curation.reporting.finished import facts, report_context

HOSTILE = '</script><script>document.title = "owned"</script> **bold** [x](https://example.org/x) <img src="https://example.org/y">'


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> WholeContext:
    rows = make_rows(60, rejected_share=0.1)
    rows[0].instruction = HOSTILE
    rows[0].main_source = rows[1].main_source = HOSTILE
    for row in rows[:2]:
        for facet in row.facets:
            facet.response = facet.system_form = HOSTILE + str(facet.index)
            facet.preferences = [
                type(entry)(entry.dimension, entry.subdimension, HOSTILE, HOSTILE, HOSTILE, entry.seed_name)
                for entry in facet.preferences
            ]
    spec = make_spec().model_copy(update={"name": HOSTILE})
    context = report_context(
        tmp_path_factory.mktemp("report"), rows, spec=spec, rejected=[("near_duplicate", HOSTILE, HOSTILE)]
    )
    run(context)
    return context


@pytest.fixture(scope="module")
def page(finished: WholeContext) -> str:
    return (finished.output_folder / "report.html").read_text()


@pytest.fixture(scope="module")
def card(finished: WholeContext) -> str:
    return (finished.output_folder / "README.md").read_text()


class Reader(HTMLParser):
    """Collects tags with what they would load, and the data blocks."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.blocks: dict[str, str] = {}
        self._block: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attributes)
        self.loads += [given[name] or "" for name in ("src", "href", "srcset", "data", "action") if name in given]
        self._block = given.get("id") if tag == "script" and given.get("type") == "application/json" else None

    def handle_data(self, data: str) -> None:
        if self._block:
            self.blocks[self._block] = data
            self._block = None


def test_page_loads_nothing_and_holds_only_its_own_scripts(page: str) -> None:
    read = Reader(page)
    assert all(load.startswith(("#", "data:")) for load in read.loads)
    assert "img" not in read.tags
    assert read.tags.count("script") == len(read.blocks) + 2
    assert {"figure-sunburst", "figure-coverage", "figure-lengths", "figure-flow_facets"} <= set(read.blocks)
    for block in read.blocks.values():
        assert set(orjson.loads(block)) == {"data", "layout"}


def test_page_says_that_the_teacher_was_a_simulator(page: str) -> None:
    assert "Teacher: simulator" in page.split("<nav")[0]


def test_a_real_teacher_is_not_called_a_simulator(tmp_path: Path) -> None:
    context = report_context(tmp_path, make_rows(8), given_facts=facts(simulator=False))
    result = run(context)
    assert result.summary["teacher"] == "openai/some-model"
    assert "Teacher: simulator" not in (context.output_folder / "report.html").read_text()
    card = (context.output_folder / "README.md").read_text()
    assert "SIMULATOR" not in card
    assert "openai" in card


def test_card_says_whether_a_judge_looked_for_the_meaning_of_held_out_preferences(tmp_path: Path) -> None:
    cards = []
    for name, judge in (("with", ModelChoice(provider="openai", model="some-judge")), ("without", None)):
        (tmp_path / name).mkdir()
        context = report_context(tmp_path / name, make_rows(8), spec=make_spec().model_copy(update={"judge": judge}))
        run(context)
        cards.append(" ".join((context.output_folder / "README.md").read_text().split()))
    judged, unjudged = cards
    assert "asked whether it means the same as one" in judged
    assert "only what shares its wording is found" not in judged
    assert "only what shares its wording is found" in unjudged
    assert "nobody read whether descriptions mean what was assigned" in unjudged


@pytest.mark.browser
def test_page_draws_its_figures_offline_and_runs_no_foreign_script(finished: WholeContext) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    told: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 390, "height": 800})
        tab.on("request", lambda request: told.append(f"request {request.url}"))
        tab.on("console", lambda message: told.append(f"console {message.text}"))
        tab.on("pageerror", lambda error: told.append(f"error {error}"))
        address = (finished.output_folder / "report.html").as_uri()
        tab.goto(address)
        tab.wait_for_selector("#coverage .main-svg")
        drawn = tab.evaluate("[...document.querySelectorAll('[data-figure]')].every(e => e.querySelector('.main-svg'))")
        wide = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        links = tab.evaluate("document.querySelectorAll('svg a').length")
        tab.keyboard.press("Tab")
        focused = tab.evaluate("document.activeElement.textContent")
        title = tab.title()
        browser.close()
    assert told == [f"request {address}"]
    assert drawn
    assert wide <= 0
    assert links == 0
    assert focused == "Skip to the content"
    assert "</script>" in title
    assert title != "owned"


def test_counts_of_the_stages_are_printed_and_add_up(finished: WholeContext, page: str, card: str) -> None:
    flow = flow_of(finished.stage_ledgers)
    assert [stage["stage"] for stage in flow] == ["curate", "augment", "compose", "respond", "assemble"]
    assert [fault for stage in flow for fault in stage["faults"]] == []
    assert "All counts add up" in page
    for stage in flow:
        assert f"| {stage['stage']} | {stage['rows_in']} | {stage['rows_out']} |" in card


def test_counts_that_do_not_add_up_are_shown(tmp_path: Path) -> None:
    context = report_context(tmp_path, make_rows(6))
    ledgers = dict(context.stage_ledgers)
    ledgers["compose"] = Ledger(6, 6, 0, 30, 30, 0)
    result = run(
        make_context(tmp_path, context.inputs, stage="report", stage_ledgers=ledgers, facts=dict(context.facts))
    )
    assert result.summary["counts_add_up"] is False
    assert "compose: 30 facets in, but" in (context.output_folder / "report.html").read_text()
    assert "do not add up" in (context.output_folder / "README.md").read_text()


def test_curation_is_told_with_its_duplicates_and_benchmarks(page: str) -> None:
    curation = page.split('id="curation"')[1].split('id="examples"')[0]
    assert "near duplicate: 1." in curation
    assert "40211" in curation
    assert "file_bench" in curation


def test_outputs_lie_in_the_jobs_folder(finished: WholeContext) -> None:
    result = run(finished)
    assert {output.name for output in result.outputs} == {"report.html", "README.md", "sample.jsonl", "statistics.json"}
    assert all(output.job_level and output.path.stat().st_size for output in result.outputs)
    lines = (finished.output_folder / "sample.jsonl").read_bytes().splitlines()
    assert len(lines) == 20
    assert all(orjson.loads(line)["teacher"] == "simulator" for line in lines)
    assert result.ledger == Ledger()


def test_report_does_with_what_it_is_given(tmp_path: Path) -> None:
    full = report_context(tmp_path, make_rows(4, facets=1))
    collection = [item for item in full.inputs if item.name.startswith("collection/")]
    run(make_context(tmp_path, collection, stage="report", facts={}))
    page = (full.output_folder / "report.html").read_text()
    assert "nothing to compare" in page
    assert "No usage was recorded" in page
    assert "No benchmark was given" in page


def test_without_a_collection_there_is_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(StepFailed) as caught:
        run(make_context(tmp_path, [], stage="report"))
    assert caught.value.code == "nothing_to_report"


def test_card_states_teacher_and_tables_in_its_front_matter(card: str) -> None:
    _, front, body = card.split("---\n", 2)
    content: dict[str, Any] = yaml.safe_load(front)
    assert content["teacher"] == "simulator"
    assert "simulator" in content["tags"]
    assert [entry["config_name"] for entry in content["configs"]] == ["collection", "sft", "dpo", "orpo", "rm"]
    assert "TEACHER: SIMULATOR" in body
    assert "<script" not in body
    assert "<img" not in body
    assert "[x](" not in body


@pytest.mark.parametrize("layout", ["pulled", "stored"])
def test_card_lets_datasets_load_the_folder(finished: WholeContext, tmp_path: Path, layout: str) -> None:
    folder = tmp_path / "job"
    for item in finished.inputs:
        if item.stage != "assemble" or item.path.suffix != ".parquet":
            continue
        name = (
            Path(item.name) if layout == "pulled" else Path("40-assemble", item.name).with_stem(f"{item.path.stem}-17")
        )
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(item.path, folder / name)
    for name in ("README.md", "sample.jsonl", "statistics.json"):
        shutil.copyfile(finished.output_folder / name, folder / name)
    loaded = datasets.load_dataset(str(folder), "dpo", cache_dir=str(tmp_path / "cache"))
    stated = {item.name: item.rows for item in finished.inputs}
    assert loaded.num_rows == {split: stated[f"exports/dpo/{split}.parquet"] for split in ("train", "test")}


def test_data_blocks_cannot_end_their_element() -> None:
    value = {"text": HOSTILE + "<!-- \u2028"}
    block = str(json_block(value))
    assert not set(block) & set("<>&\u2028")
    assert orjson.loads(block) == value


def test_markdown_text_is_one_harmless_line() -> None:
    assert markdown_text("a\n# b | `c` <i>") == r"a \# b \| \`c\` &lt;i&gt;"


@pytest.mark.parametrize(("pole", "fault"), [("careful", False), ("frank", True)])
def test_frank_preferences_of_harmful_instructions_are_shown_as_a_fault(tmp_path: Path, pole: str, fault: bool) -> None:
    rows = make_rows(12)
    rows[3].tags = [HARMFUL_INTENT_TAG]
    for facet in rows[3].facets:
        others = [entry for entry in facet.preferences if entry.dimension != "harmlessness"]
        tagged = msgspec.structs.replace(
            facet.preferences[0], dimension="harmlessness", subdimension="candour", pole=pole, check=None
        )
        facet.preferences = [*others, tagged]
    spec = make_spec(splits=SplitParameters(test_share=0))
    context = report_context(tmp_path, rows, spec=spec)
    result = run(context)
    page = (context.output_folder / "report.html").read_text()
    card = (context.output_folder / "README.md").read_text()
    assert result.summary["harmful_intent"]["instructions"] == 1
    assert result.summary["harmful_intent"]["facets"] == 3
    assert result.summary["harmful_intent"]["frank_preferences"] == (3 if fault else 0)
    assert ("stand on a frank pole; none should" in page) is fault
    assert ("stand on a frank pole; none should" in card) is fault
    assert "Instructions tagged `harmful-intent`: 1, with 3 facets." in card
    assert ("their 3 preferences stand on careful ones only" in card) is not fault


def test_pairs_of_harmful_instructions_that_differ_in_care_are_counted_in_card_and_report(tmp_path: Path) -> None:
    rows = make_rows(12)
    rows[3].tags = [HARMFUL_INTENT_TAG]
    for facet in rows[3].facets:
        facet.preferences = [entry for entry in facet.preferences if entry.dimension != "harmlessness"]
    one = rows[3].facets[1]
    one.preferences.append(
        msgspec.structs.replace(one.preferences[0], dimension="harmlessness", subdimension="candour", pole="careful")
    )
    context = report_context(tmp_path, rows, spec=make_spec(splits=SplitParameters(test_share=0)))
    result = run(context)
    assert result.summary["harmful_intent"]["pairs_left_out"] == 4
    told = "4 ordered pairs were left out because one side asks for care where the other does not"
    assert told in (context.output_folder / "report.html").read_text()
    assert told in (context.output_folder / "README.md").read_text()
    assert (
        orjson.loads((context.output_folder / "statistics.json").read_bytes())["harmful_intent"]["pairs_left_out"] == 4
    )
