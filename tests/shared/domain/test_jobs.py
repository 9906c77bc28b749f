"""The job spec: frozen, closed, and refused where it means nothing."""

from typing import Any

import pytest
from pydantic import ValidationError

from shared.domain.jobs import JobSpec, Source
from shared.domain.plan import COLLECTION_PLAN

TEACHER = {"provider": "simulator", "model": "simulator-large"}
SMALLEST: dict[str, Any] = {"sources": [{"bundled": "demo"}], "teacher": TEACHER}


def test_the_smallest_spec_fills_every_default_and_survives_a_round_trip() -> None:
    spec = JobSpec.model_validate(SMALLEST)
    assert spec.augment.sets_per_instruction == 3
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("change", "location", "kind"),
    [
        ({"sets": 3}, ("sets",), "extra_forbidden"),
        ({"augment": {"sets_per_instruction": 0}}, ("augment", "sets_per_instruction"), "greater_than_equal"),
        ({"augment": {"sampling": {"temprature": 1}}}, ("augment", "sampling", "temprature"), "extra_forbidden"),
        ({"sources": []}, ("sources",), "value_error"),
        ({"teacher": None}, ("teacher",), "value_error"),
        ({"sources": [{}]}, ("sources", 0), "value_error"),
        ({"sources": [{"bundled": "demo", "hub": "a/b"}]}, ("sources", 0), "value_error"),
        ({"sources": [{"file": "f", "limit": 0}]}, ("sources", 0, "limit"), "greater_than_equal"),
        ({"teacher": {**TEACHER, "base_url": "http://localhost"}}, ("teacher", "base_url"), "extra_forbidden"),
        ({"budget_usd": 0}, ("budget_usd",), "greater_than"),
        ({"max_reject_rate": 1.5}, ("max_reject_rate",), "less_than_equal"),
        ({"stop_after": "train"}, ("stop_after",), "value_error"),
        ({"respond": {"minimum_followed": 1.5}}, ("respond", "minimum_followed"), "less_than_equal"),
        ({"assemble": {"pairing": "all"}}, ("assemble", "pairing"), "literal_error"),
        ({"assemble": {"test_instruction_share": 0.1}}, ("assemble", "test_instruction_share"), "extra_forbidden"),
        ({"splits": {"test_share": 1}}, ("splits", "test_share"), "less_than"),
        ({"splits": {"seed_share": 0.6}}, ("splits", "seed_share"), "less_than_equal"),
        ({"splits": {"maximum_containment": 0}}, ("splits", "maximum_containment"), "greater_than"),
        ({"augment": {"set_sizes": {}}}, ("augment", "set_sizes"), "value_error"),
        ({"augment": {"set_sizes": {0: 1}}}, ("augment", "set_sizes"), "value_error"),
        ({"augment": {"set_sizes": {9: 1}}}, ("augment", "set_sizes"), "value_error"),
        ({"augment": {"set_sizes": {3: 1, 4: -1}}}, ("augment", "set_sizes"), "value_error"),
        ({"augment": {"set_sizes": {3: 0}}}, ("augment", "set_sizes"), "value_error"),
        ({"augment": {"unseen_set_sizes": [6]}}, ("augment",), "value_error"),
        ({"augment": {"unseen_set_sizes": [9]}}, ("augment",), "value_error"),
        ({"augment": {"profiles": {"count": 7}}}, ("augment", "profiles", "count"), "greater_than_equal"),
    ],
)
def test_what_means_nothing_is_refused_at_its_place(
    change: dict[str, Any], location: tuple[Any, ...], kind: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate(SMALLEST | change)
    first = caught.value.errors()[0]
    assert (first["loc"], first["type"]) == (location, kind)


def test_sizes_of_sets_are_kept_in_order_and_read_back_from_json() -> None:
    augment = {"set_sizes": {"5": 1, "2": 3, "7": 0}, "unseen_set_sizes": [6, 8]}
    spec = JobSpec.model_validate(SMALLEST | {"augment": augment})
    assert list(spec.augment.set_sizes) == [2, 5, 7]
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    assert JobSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert spec.augment.mean_set_size() == (5 + 2 * 3) / 4


@pytest.mark.parametrize(("tokens", "slots"), [(110, 1), (219, 1), (220, 2), (2000, 18), (50, 1)])
def test_an_answer_holds_as_many_preferences_as_its_tokens_and_one_at_least(tokens: int, slots: int) -> None:
    spec = JobSpec.model_validate(SMALLEST | {"augment": {"sampling": {"max_tokens": tokens}}})
    assert spec.augment.slots_per_call() == slots


def test_a_spec_is_frozen() -> None:
    spec = JobSpec.model_validate(SMALLEST)
    with pytest.raises(ValidationError, match="frozen"):
        spec.seed = 1  # type: ignore[misc]


def test_the_refusal_of_two_places_names_them() -> None:
    with pytest.raises(ValidationError, match=r"seen: \['file', 'hub'\]"):
        Source(file="a", hub="b")


@pytest.mark.parametrize("stage", [stage.name for stage in COLLECTION_PLAN])
def test_parameters_of_a_stage_are_plain_json(stage: str) -> None:
    parameters = JobSpec.model_validate(SMALLEST).parameters_of(stage)
    assert isinstance(parameters, dict)
    assert bool(parameters) is (stage != "report")


def test_a_preset_fills_what_the_spec_leaves_out_and_reads_back_the_same() -> None:
    spec = JobSpec.model_validate(SMALLEST | {"preset": "paper", "augment": {"sets_per_instruction": 2}})
    assert spec.augment.sets_per_instruction == 2
    assert spec.augment.set_sizes == {4: 1.0}
    assert spec.assemble.pairing == "random"
    assert spec.splits.test_share == 0
    assert JobSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_an_unknown_preset_is_refused_with_the_known_names() -> None:
    with pytest.raises(ValidationError, match="no preset 'papre'; known: paper"):
        JobSpec.model_validate(SMALLEST | {"preset": "papre"})


@pytest.mark.parametrize(
    ("augment", "said"),
    [
        ({"set_sizes": {9: 1}}, "between 1 and 8"),
        ({"set_sizes": {}}, "between 1 and 8"),
        ({"set_sizes": {2: -1}}, "not negative"),
        ({"set_sizes": {2: 0}}, "above 0"),
        ({"set_sizes": {4: 1}, "unseen_set_sizes": [4]}, "above the largest"),
        ({"sets_per_instruction": 16, "profiles": {"count": 31}}, "give profiles.count 32 or more"),
    ],
)
def test_set_sizes_are_checked(augment: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        JobSpec.model_validate(SMALLEST | {"augment": augment})


SFT: dict[str, Any] = {"name": "sft", "method": "sft", "base": {"random": "tiny-mistral"}}
DPO: dict[str, Any] = {"name": "dpo", "method": "dpo", "base": {"stage": "sft"}}
ELSEWHERE: dict[str, Any] = {"data": {"job": "job_1"}}


def test_a_collection_with_trainings_gives_each_its_own_parameters() -> None:
    spec = JobSpec.model_validate(SMALLEST | {"train": [SFT | {"epochs": 2}, DPO]})
    assert spec.parameters_of("sft")["epochs"] == 2
    assert spec.parameters_of("dpo")["base"]["stage"] == "sft"
    assert spec.parameters_of("report") == {}
    assert JobSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_trainings_alone_need_neither_sources_nor_a_teacher_and_survive_a_round_trip() -> None:
    spec = JobSpec.model_validate({"train": [SFT | ELSEWHERE], "deadline_seconds": 60})
    assert (spec.sources, spec.teacher) == ((), None)
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(ValueError, match="makes no collection"):
        spec.require_teacher()


@pytest.mark.parametrize(
    ("change", "location", "said"),
    [
        ({"train": [SFT]}, "sources", r"train\[0\] \(sft\) would train on the collection of this job"),
        ({"train": [SFT | {"data": {"file": "file_1"}}, DPO]}, "sources", r"train\[1\] \(dpo\) would train on"),
        ({"train": []}, "sources", "at least one source, or one"),
        ({"teacher": TEACHER}, "teacher", "neither sources nor a bench to write for"),
        ({"judge": TEACHER}, "judge", "neither sources nor anything in evaluate"),
        ({"stop_after": "report"}, "stop_after", "option of a collection"),
        ({"budget_usd": 1}, "budget_usd", "option of a collection"),
        ({"preset": "paper"}, "preset", "option of a collection"),
        ({"taxonomy": "mine"}, "taxonomy", "option of a collection"),
        ({"seed": 1}, "seed", "option of a collection"),
        ({"max_reject_rate": 1}, "max_reject_rate", "option of a collection"),
        ({"curate": {"limit": 3}}, "curate", "option of a collection"),
        ({"train": [SFT | ELSEWHERE] * 9}, "train", "at most 8"),
    ],
)
def test_what_belongs_to_a_collection_is_refused_where_there_is_none(
    change: dict[str, Any], location: str, said: str
) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        JobSpec.model_validate({"train": [SFT | ELSEWHERE]} | change)
    assert location in {error["loc"][0] for error in caught.value.errors()}


@pytest.mark.parametrize("last", ["curate", "augment", "compose", "respond"])
def test_a_job_that_stops_before_assembly_has_nothing_of_its_own_to_train_on(last: str) -> None:
    with pytest.raises(ValidationError, match="sft trains on the assembled collection"):
        JobSpec.model_validate(SMALLEST | {"train": [SFT], "stop_after": last})
    JobSpec.model_validate(SMALLEST | {"train": [SFT | ELSEWHERE], "stop_after": last})
