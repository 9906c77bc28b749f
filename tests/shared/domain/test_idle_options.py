"""Options that would do nothing are named with their place; a spec without them has none."""

from typing import Any

import pytest

from shared.domain.idle_options import idle_options
from shared.domain.jobs import JobSpec

MODEL = {"provider": "simulator", "model": "simulator-large"}


def pointers(**changes: Any) -> list[str]:
    spec = JobSpec.model_validate({"sources": [{"bundled": "demo"}], "teacher": MODEL} | changes)
    return [option.pointer for option in idle_options(spec)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"judge": MODEL, "stop_after": "curate"}, ["/judge"]),
        ({"splits": {"test_share": 0, "forms": 1, "seed_share": 0.2}}, ["/splits/seed_share", "/splits/forms"]),
        ({"splits": {"sources": 0, "largest_source_share": 0.5}}, ["/splits/largest_source_share"]),
        (
            {"splits": {"test_share": 0}, "augment": {"set_sizes": {2: 1}, "unseen_set_sizes": [3]}},
            ["/augment/unseen_set_sizes"],
        ),
        ({"respond": {"minimum_followed": 0.7}}, ["/respond/minimum_followed"]),
        (
            {"respond": {"minimum_followed": 0}, "assemble": {"minimum_pair_margin": 0.5}},
            ["/respond/minimum_followed", "/assemble/minimum_pair_margin"],
        ),
        ({"curate": {"languages": ["english"]}}, ["/curate/languages/0"]),
        ({"curate": {"languages": ["de", "EN", "yue", "sh", ""]}}, [f"/curate/languages/{n}" for n in (1, 2, 3, 4)]),
        ({"sources": [{"bundled": "demo", "hub_split": "test"}]}, ["/sources/0/hub_split"]),
        (
            {"sources": [{"bundled": "demo"}, {"file": "f", "hub_config": "x", "hub_revision": "main"}]},
            ["/sources/1/hub_config", "/sources/1/hub_revision"],
        ),
        ({"sources": [{"hub": "a/b", "format": "csv"}]}, ["/sources/0/format"]),
    ],
)
def test_options_without_effect_are_named(changes: dict[str, Any], expected: list[str]) -> None:
    assert pointers(**changes) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"judge": MODEL},
        {"judge": MODEL, "stop_after": "augment"},
        {"preset": "paper"},
        {"splits": {"test_share": 0.3, "forms": 1}},
        {"splits": {"sources": 0}},
        {"splits": {"test_share": 0}, "augment": {"unseen_set_sizes": []}},
        {"judge": MODEL, "respond": {"minimum_followed": 0}, "assemble": {"minimum_pair_margin": 0.5}},
        {"respond": {"minimum_followed": 0.5, "no_system_share": 0}},
        {"curate": {"languages": ["de", "en", "zh"]}},
        {"sources": [{"hub": "a/b", "hub_config": "x", "hub_split": "test", "hub_revision": "main"}]},
        {"sources": [{"bundled": "demo", "hub_split": "train", "format": "jsonl"}]},
    ],
)
def test_options_with_effect_are_left_alone(changes: dict[str, Any]) -> None:
    assert pointers(**changes) == []


def test_what_to_set_is_said() -> None:
    spec = {"sources": [{"file": "f", "hub_split": "test"}], "teacher": MODEL, "judge": MODEL}
    changes = {"curate": {"languages": ["english"]}, "stop_after": "curate"}
    split, language, judge = idle_options(JobSpec.model_validate(spec | changes))
    assert "leave it out, or set `hub`" in split.detail
    assert "such as en, de or zh" in language.detail
    assert "let `stop_after` be augment or later" in judge.detail
