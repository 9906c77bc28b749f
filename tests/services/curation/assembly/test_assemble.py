"""Assembly writes the released layouts, counts every facet and keeps held-out preferences out of training."""

from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.curation.assembly.assemble import run
from shared.domain.errors import StepFailed
from shared.domain.jobs import AssembleParameters, JobSpec, SplitParameters
from shared.domain.rows import NEUTRAL_INDEX, Facet, InstructionRow, Rejection, Verdict
from shared.domain.splits import hold_out
from shared.stages.protocol import WholeResult
from tests.services.curation.assembly.synthetic import (
    make_context,
    make_rows,
    make_spec,
    respond_parts,
    small_taxonomy,
)

PREFERENCE_SET = pa.list_(
    pa.struct([(name, pa.string()) for name in ("dimension", "subdimension", "preference", "description")])
)
TURNS = pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())]))
RELEASED = {
    "sft": {
        "main_source": pa.string(),
        "original_source": pa.string(),
        "preference_set": PREFERENCE_SET,
        "system": pa.string(),
        "prompt": pa.string(),
        "output": pa.string(),
    },
    "dpo": {
        "main_source": pa.string(),
        "original_source": pa.string(),
        "system": pa.string(),
        "prompt": pa.string(),
        "chosen": TURNS,
        "rejected": TURNS,
    },
    "rm": {"input": pa.string(), "chosen": pa.string(), "rejected": pa.string()},
}
RELEASED["orpo"] = RELEASED["dpo"]


NOTHING_HELD_OUT = SplitParameters(test_share=0)


def assemble(
    folder: Path, rows: list[InstructionRow], spec: JobSpec | None = None, **parameters: Any
) -> tuple[WholeResult, Path]:
    """Assemble rows that were made with the same spec; `parameters` are of assemble."""
    spec = (spec or make_spec()).model_copy(update={"assemble": AssembleParameters(**parameters)})
    context = make_context(folder, respond_parts(folder / "respond", rows), spec=spec)
    return run(context), context.output_folder


def records(path: Path) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return result


def both(folder: Path, part: str) -> list[dict[str, Any]]:
    return records(folder / part / "train.parquet") + records(folder / part / "test.parquet")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[WholeResult, Path]:
    return assemble(tmp_path_factory.mktemp("assemble"), make_rows(120, rejected_share=0.15))


@pytest.mark.parametrize("export", ["sft", "dpo", "orpo", "rm"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_export_has_exactly_the_released_columns_and_types(
    made: tuple[WholeResult, Path], export: str, split: str
) -> None:
    path = made[1] / "exports" / export / f"{split}.parquet"
    schema = pq.read_schema(path)
    assert list(zip(schema.names, schema.types, strict=True)) == list(RELEASED[export].items())


@pytest.mark.parametrize("export", ["sft", "dpo", "orpo", "rm"])
def test_exports_load_with_datasets_and_jsonl_says_the_same(
    made: tuple[WholeResult, Path], export: str, tmp_path: Path
) -> None:
    folder = made[1] / "exports" / export
    files = {split: str(folder / f"{split}.parquet") for split in ("train", "test")}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path))
    for split in ("train", "test"):
        assert loaded[split].column_names == list(RELEASED[export])
        lines = [orjson.loads(line) for line in (folder / f"{split}.jsonl").read_bytes().splitlines()]
        assert lines == loaded[split].to_list()
        assert lines


def test_collection_loads_with_datasets(made: tuple[WholeResult, Path], tmp_path: Path) -> None:
    files = {split: str(made[1] / "collection" / f"{split}.parquet") for split in ("train", "test")}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path))
    assert loaded.num_rows["train"] == made[0].summary["facets"]["train/seen"]
    first = loaded["train"][0]
    assert first["teacher"] == "simulator"
    assert [made_by["stage"] for made_by in first["provenance"]] == ["augment", "compose", "respond"]
    checked = [entry for row in loaded["train"] for entry in row["preference_details"] if entry["check_kind"]]
    assert {entry["check_result"] for entry in checked} <= {"pass", "not_applicable"}
    assert checked


def test_every_living_facet_is_counted_and_written_once(made: tuple[WholeResult, Path]) -> None:
    result, folder = made
    living = [
        (row.row_id, facet.index) for row in make_rows(120, rejected_share=0.15) for facet in row.facets if facet.alive
    ]
    written = [(record["row_id"], record["facet_index"]) for record in both(folder, "collection")]
    assert sorted(written) == sorted(living)
    result.ledger.check()
    assert result.ledger.facets_in == result.ledger.facets_out == len(living)
    assert sum(result.summary["facets"].values()) == len(living)
    assert result.summary["dropped"] == {}


def test_verdicts_are_written_about_answers_and_wishes_that_stand(tmp_path: Path) -> None:
    rows = make_rows(6)
    for row in rows:
        row.neutral = Facet(NEUTRAL_INDEX, response="neutral")
        row.matrix = [
            Verdict(answer, facet, 0, "followed", "judge", "a quote")
            for answer in (0, 1, 2, NEUTRAL_INDEX)
            for facet in (0, 1, 2)
        ]
    rows[0].facets[1].response = None
    rows[1].neutral = Facet(NEUTRAL_INDEX, rejection=Rejection("respond", "outvoted"))
    result, folder = assemble(tmp_path, rows)
    written = both(folder, "facet_matrix")
    assert {output.name: output.rows for output in result.outputs}["facet_matrix/train.parquet"] == len(
        records(folder / "facet_matrix" / "train.parquet")
    )
    by_row = {row.row_id: [one for one in written if one["row_id"] == row.row_id] for row in rows}
    assert {(one["answer"], one["facet"]) for one in by_row[rows[0].row_id]} == {
        (answer, facet) for answer in (0, 2, NEUTRAL_INDEX) for facet in (0, 2)
    }
    assert {one["answer"] for one in by_row[rows[1].row_id]} == {0, 1, 2}
    assert [len(by_row[row.row_id]) for row in rows] == [6, 9, 12, 12, 12, 12]
    assert {(one["verdict"], one["source"], one["quote"]) for one in written} == {("followed", "judge", "a quote")}


def test_a_living_facet_without_response_is_rejected_with_a_reason(tmp_path: Path) -> None:
    rows = make_rows(5, facets=2)
    rows[0].facets[0].response = None
    rows[1].facets[1].system = ""
    rows[2].facets[0].rejection = rows[2].facets[1].rejection = Rejection("respond", "refused")
    result, _ = assemble(tmp_path, rows)
    result.ledger.check()
    assert result.ledger.reasons == {"no_response": 1, "no_system_message": 1}
    assert (result.ledger.facets_in, result.ledger.facets_out, result.ledger.rows_in) == (8, 6, 4)


def test_pairs_are_own_response_against_a_siblings(made: tuple[WholeResult, Path]) -> None:
    result, folder = made
    facets = {(record["row_id"], record["facet_index"]): record for record in both(folder, "collection")}
    provenance = records(folder / "exports" / "dpo" / "provenance.parquet")
    rows = {split: records(folder / "exports" / "dpo" / f"{split}.parquet") for split in ("train", "test")}
    rewards = {split: records(folder / "exports" / "rm" / f"{split}.parquet") for split in ("train", "test")}
    assert len(provenance) == sum(map(len, rows.values())) == sum(result.summary["pairs"].values())
    for origin in provenance:
        row, reward = (table[origin["split"]][origin["row"]] for table in (rows, rewards))
        chosen = facets[origin["row_id"], origin["chosen_facet_index"]]
        rejected = facets[origin["row_id"], origin["rejected_facet_index"]]
        assert chosen["split"] == rejected["split"] == origin["split"]
        assert row["system"] == chosen["system"] != rejected["system"]
        assert row["chosen"] == [
            {"content": chosen["prompt"], "role": "user"},
            {"content": chosen["output"], "role": "assistant"},
        ]
        assert row["rejected"][1]["content"] == rejected["output"] != chosen["output"]
        assert reward == {
            "input": f"{chosen['system']}\n{chosen['prompt']}",
            "chosen": chosen["output"],
            "rejected": rejected["output"],
        }


def test_dpo_and_orpo_hold_the_same_pairs(made: tuple[WholeResult, Path]) -> None:
    for file in ("train.parquet", "test.parquet", "provenance.parquet", "train.jsonl"):
        dpo, orpo = ((made[1] / "exports" / name / file).read_bytes() for name in ("dpo", "orpo"))
        assert dpo == orpo


def test_random_pairing_makes_one_pair_per_instruction_and_split_or_counts_why_not(tmp_path: Path) -> None:
    result, folder = assemble(tmp_path, make_rows(60), pairing="random")
    groups = Counter((record["row_id"], record["split"]) for record in both(folder, "collection"))
    pairs = Counter(
        (origin["row_id"], origin["split"]) for origin in records(folder / "exports" / "dpo" / "provenance.parquet")
    )
    assert set(pairs.values()) == {1}
    assert set(pairs) == {group for group, count in groups.items() if count > 1}
    assert sum(result.summary["unpaired"].values()) == len(groups) - len(pairs)


def test_mirrored_pairing_holds_every_ordered_pair_of_an_instruction(tmp_path: Path) -> None:
    spec = make_spec(splits=NOTHING_HELD_OUT)
    result, _ = assemble(tmp_path / "whole", make_rows(10, facets=3, spec=spec), spec, pairing="mirrored")
    assert result.summary["pairs"] == {"train/seen": 10 * 6}
    _, folder = assemble(tmp_path / "split", make_rows(40), pairing="mirrored")
    origins = records(folder / "exports" / "dpo" / "provenance.parquet")
    orders = Counter((o["split"], o["row_id"], o["chosen_facet_index"], o["rejected_facet_index"]) for o in origins)
    assert orders
    assert orders == Counter({(split, row, j, i): count for (split, row, i, j), count in orders.items()})


def test_equal_responses_make_no_pair(tmp_path: Path) -> None:
    rows = make_rows(6, facets=2)
    for row in rows:
        row.facets[1].response = row.facets[0].response
    result, _ = assemble(tmp_path, rows)
    assert result.summary["pairs"] == {}
    assert result.summary["unpaired"] == {"equal_responses_or_systems": 6}


def test_one_facet_per_instruction_gives_a_collection_without_pairs(tmp_path: Path) -> None:
    result, folder = assemble(tmp_path, make_rows(20, facets=1))
    assert result.ledger.facets_out == 20
    assert result.summary["unpaired"] == {"single_facet": 20}
    assert both(folder, "exports/dpo") == []
    assert len(both(folder, "exports/sft")) == 20


def test_a_system_message_is_taken_once_whatever_the_instruction(tmp_path: Path) -> None:
    rows = make_rows(8, facets=2)
    for row in rows[:4]:
        row.facets[1].system = "You like plain words."
    for facet in rows[7].facets:
        facet.system = "You like plain words."
    result, folder = assemble(tmp_path, rows)
    systems = [record["system"] for record in both(folder, "collection")]
    assert len(systems) == len(set(systems)) == 16 - 5
    assert result.ledger.reasons == {"duplicate_system_message": 5}
    assert result.ledger.rows_rejected == 1
    assert result.summary["instructions"]["total"] == 7
    result.ledger.check()


def test_nothing_alive_fails_with_what_was_seen(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="no facet lives") as caught:
        assemble(tmp_path, make_rows(5, rejected_share=1.0))
    assert caught.value.code == "nothing_to_assemble"


SPLITS = st.builds(
    SplitParameters,
    test_share=st.sampled_from([0, 0.05, 0.3, 0.6]),
    seed_share=st.floats(0, 0.5),
    subdimensions=st.integers(0, 4),
    pair_share=st.floats(0, 0.3),
    role_share=st.floats(0, 0.5),
    forms=st.integers(0, 5),
    sources=st.integers(0, 2),
)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 25),
    facets=st.integers(1, 4),
    seed=st.integers(0, 2**53),
    splits=SPLITS,
    pairing=st.sampled_from(["random", "mirrored"]),
)
def test_training_never_holds_what_is_held_out(
    tmp_path_factory: pytest.TempPathFactory,
    rows: int,
    facets: int,
    seed: int,
    splits: SplitParameters,
    pairing: str,
) -> None:
    spec = make_spec(seed, splits=splits)
    taxonomy = small_taxonomy()
    made_rows = make_rows(rows, facets, seed=seed % 97, spec=spec)
    result, folder = assemble(tmp_path_factory.mktemp("split"), made_rows, spec, pairing=pairing)
    held_out = hold_out(taxonomy, splits, seed)
    assert result.summary["held_out"] == held_out.as_json()
    split_of = {row.row_id: row.split for row in made_rows}
    responses = {}
    for record in both(folder, "collection"):
        responses[record["output"]] = record["row_id"]
        assert record["split"] == split_of[record["row_id"]]
        if record["split"] == "test":
            continue
        assert record["held_out_preferences"] == []
        assert not {entry["seed_name"] for entry in record["preference_details"]} & held_out.seeds
        assert not {entry["subdimension"] for entry in record["preference_set"]} & held_out.subdimensions
        assert not held_out.has_pair(
            [
                (entry["subdimension"], detail["pole"])
                for entry, detail in zip(record["preference_set"], record["preference_details"], strict=True)
            ]
        )
        assert record["system_form"] not in held_out.forms
        assert record["system_role"] not in held_out.roles
    for pair in records(folder / "exports" / "dpo" / "train.parquet"):
        for side in ("chosen", "rejected"):
            assert split_of[responses[pair[side][1]["content"]]] == "train"


def test_the_same_job_assembles_to_the_same_bytes(tmp_path: Path) -> None:
    spec = make_spec(5)
    first, first_folder = assemble(tmp_path / "a", make_rows(30, spec=spec), spec)
    second, second_folder = assemble(tmp_path / "b", make_rows(30, spec=spec), spec)
    assert first.summary == second.summary
    for output in first.outputs:
        assert (first_folder / output.name).read_bytes() == (second_folder / output.name).read_bytes()


def test_outputs_state_their_rows(made: tuple[WholeResult, Path]) -> None:
    names = {output.name for output in made[0].outputs}
    assert {
        "collection/train.parquet",
        "facet_matrix/test.parquet",
        "exports/orpo/test.jsonl",
        "exports/rm/provenance.parquet",
    } <= names
    assert len(names) == 24
    for output in made[0].outputs:
        lines = output.path.read_bytes().splitlines() if output.path.suffix == ".jsonl" else None
        assert output.rows == (pq.read_metadata(output.path).num_rows if lines is None else len(lines))
