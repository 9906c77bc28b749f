"""The specs that the docs show are ones that a job takes."""

import re
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from services.cli.dry_run import as_dry_run
from shared.domain.evaluations import RobustnessSuite
from shared.domain.idle_options import idle_options
from shared.domain.jobs import JobSpec
from shared.domain.training_presets import training_preset_names
from shared.robustness.suites import suite_rows

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "training.md").read_text(encoding="utf-8")


def specs_of(page: str) -> list[dict[str, Any]]:
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]


SPECS = specs_of(PAGE)
EVALUATIONS = [
    (name, number, spec)
    for name in ("evaluations", "protocols", "measures")
    for number, spec in enumerate(specs_of((DOCS / f"{name}.md").read_text(encoding="utf-8")))
]
COLLECTION = {"sources": [{"bundled": "demo"}], "teacher": {"provider": "simulator", "model": "simulator-small"}}


@pytest.mark.parametrize("number", range(len(SPECS)))
def test_every_spec_that_is_shown_is_accepted_and_so_is_its_dry_run(number: int) -> None:
    spec = SPECS[number] | (COLLECTION if "name" not in SPECS[number] else {})
    assert JobSpec.model_validate(spec).train
    assert all(training.dry_run for training in JobSpec.model_validate(as_dry_run(spec)).train)


def test_all_chains_of_the_page_are_there() -> None:
    methods = {tuple(t.method.value for t in JobSpec.model_validate(spec | COLLECTION).train) for spec in SPECS}
    assert {("sft",), ("sft", "dpo"), ("orpo",), ("sft", "rm", "rm")} <= methods


def test_the_table_of_presets_has_them_all() -> None:
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \| .* \| .*GiB|^\| `(smoke-cpu)`", PAGE, re.MULTILINE)) == {
        (name, "") if name != "smoke-cpu" else ("", name) for name in training_preset_names()
    }


@pytest.mark.parametrize(("page", "number", "spec"), EVALUATIONS)
def test_every_evaluation_that_is_shown_is_accepted_and_has_no_idle_option(
    page: str, number: int, spec: dict[str, Any]
) -> None:
    accepted = JobSpec.model_validate(spec)
    assert accepted.evaluate is not None
    assert list(idle_options(accepted)) == [], (page, number)


def test_the_spec_of_the_page_on_robustness_is_accepted_for_every_suite() -> None:
    page = (Path(__file__).parents[3] / "docs" / "robustness.md").read_text(encoding="utf-8")
    (spec,) = (orjson.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL))
    assert JobSpec.model_validate(spec).asked.suite is RobustnessSuite.FACTS
    for suite in RobustnessSuite:
        rows = suite_rows(suite)
        asked = JobSpec.model_validate({**spec, "questions": {"suite": suite.value}})
        assert not list(idle_options(asked))
        assert re.search(rf"^\| `{suite.value}` \| {len(rows)} ", page, re.MULTILINE)
