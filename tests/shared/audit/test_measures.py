"""Each defect, planted in a clean set, turns its finding bad; the clean set passes every measure."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.audit import Finding, audit_data, load_data
from shared.audit.data import MOST_ROWS
from shared.audit.measures.contradictions import contradiction
from tests.shared.audit.planted import Row, clean_rows, mirrored_pairs, pair, prose, write_lines

Planted = Callable[[list[Row]], list[Row]]


def findings(path: Path, **options: object) -> dict[str, Finding]:
    return {found.name: found for found in audit_data(load_data(path, **options)).findings()}  # type: ignore[arg-type]


def test_a_clean_collection_passes(tmp_path: Path) -> None:
    found = findings(write_lines(tmp_path / "train.jsonl", clean_rows()))
    assert {
        name: result.verdict for name, result in found.items() if result.verdict not in ("ok", "not_applicable")
    } == {}
    assert sum(result.verdict == "ok" for result in found.values()) == 22
    assert all(result.interval is not None for result in found.values() if result.verdict == "ok")


def test_clean_pairs_pass(tmp_path: Path) -> None:
    found = findings(write_lines(tmp_path / "train.jsonl", mirrored_pairs(clean_rows())))
    assert {
        name: result.verdict for name, result in found.items() if result.verdict not in ("ok", "not_applicable")
    } == {}
    assert found["blind_classifier"].estimate == 0.5
    assert found["mirrored_pairs"].estimate == 1.0


def _entries(change: Callable[[Row, random.Random], None]) -> Planted:
    def plant(rows: list[Row]) -> list[Row]:
        generator = random.Random(5)
        for row in rows:
            for entry in row["preference_set"]:
                change(entry, generator)
        return rows

    return plant


def _rows(change: Callable[[Row, random.Random], None]) -> Planted:
    def plant(rows: list[Row]) -> list[Row]:
        generator = random.Random(6)
        for row in rows:
            change(row, generator)
        return rows

    return plant


def _one_subdimension(entry: Row, generator: random.Random) -> None:
    if generator.random() < 0.9:
        entry.update(dimension="style", subdimension="clarity")


def _split(row: Row, generator: random.Random) -> None:
    entry = row["preference_set"][0]
    row["preference_set"].append({**entry, "preference": "and another half"})


def _wrong_level(entry: Row, generator: random.Random) -> None:
    if entry["subdimension"] == "expert":
        entry["preference"] = "intermediate php"


def _foreign(entry: Row, generator: random.Random) -> None:
    if entry["dimension"] == "style":
        entry["preference"] = "creative and safety-minded wording"


def _caution(entry: Row, generator: random.Random) -> None:
    entry["description"] = entry["description"].replace("Without any warnings.", "With great care.")


def _same_order(row: Row, generator: random.Random) -> None:
    row["preference_set"].sort(key=lambda entry: entry["dimension"])


def _same_description(entry: Row, generator: random.Random) -> None:
    entry["description"] = "Wants every statement to be put in the plainest words there are."


def _one_shape(row: Row, generator: random.Random) -> None:
    row["system"] = f"You are a helper of kind {generator.randrange(99)}. {prose(generator, 100)}"


def _contradiction(row: Row, generator: random.Random) -> None:
    if generator.random() < 0.2:
        row["system"] += " Keep the answer very brief. Give an exhaustive explanation."


def _conflicting_checks(row: Row, generator: random.Random) -> None:
    row["system"] += " " + 'Leave the phrase "lantern" out of the answer. Include the phrase "lantern" in the answer.'


def _repeated_system(row: Row, generator: random.Random) -> None:
    row["system"] = "You are a guide who answers at ease and with patience, in words of every day." + "!" * 3


def _repeated_answer(row: Row, generator: random.Random) -> None:
    row["output"] = "As a matter of fact it all depends on what you want to know. " * 8 + row["output"][-30:]


def _one_character(row: Row, generator: random.Random) -> None:
    if generator.random() < 0.05:
        row["output"] = "."


def _deaf(row: Row, generator: random.Random) -> None:
    row["output"] = prose(generator, 80)


def _uncheckable(row: Row, generator: random.Random) -> None:
    row["system"] = row["system"].replace('Include the phrase "', 'Mention "')


def _moot(row: Row, generator: random.Random) -> None:
    row["system"] = prose(generator, generator.randint(5, 90)) + " Keep the answer to at most 900 words."


DEFECTS: list[tuple[str, Planted]] = [
    ("coverage_entropy", _entries(_one_subdimension)),
    ("split_keywords", _rows(_split)),
    ("wrong_level", _entries(_wrong_level)),
    ("foreign_style", _entries(_foreign)),
    ("less_caution", _entries(_caution)),
    ("position_dimension", _rows(_same_order)),
    ("similar_descriptions", _entries(_same_description)),
    ("system_length_variation", _rows(_one_shape)),
    ("system_shape", _rows(_one_shape)),
    ("system_openings", _rows(_repeated_system)),
    ("contradictions", _rows(_contradiction)),
    ("contradictions", _rows(_conflicting_checks)),
    ("similar_systems", _rows(_repeated_system)),
    ("output_compression", _rows(_repeated_answer)),
    ("output_openings", _rows(_repeated_answer)),
    ("same_answers", _rows(_repeated_answer)),
    ("one_character_answers", _rows(_one_character)),
    ("failed_checks", _rows(_deaf)),
    ("unverified_answers", _rows(_uncheckable)),
    ("moot_checks", _rows(_moot)),
    ("moot_systems", _rows(_moot)),
]


@pytest.mark.parametrize(("name", "plant"), DEFECTS, ids=[f"{name}-{at}" for at, (name, _) in enumerate(DEFECTS)])
def test_a_planted_defect_is_found(tmp_path: Path, name: str, plant: Planted) -> None:
    found = findings(write_lines(tmp_path / "train.jsonl", plant(clean_rows())))[name]
    assert (found.verdict, found.name) == ("bad", name), found
    assert found.estimate is not None
    assert found.n > 0


@pytest.mark.parametrize("name", ["blind_classifier", "chosen_longer", "length_difference", "mirrored_pairs"])
def test_a_shortcut_in_pairs_is_found(tmp_path: Path, name: str) -> None:
    generator = random.Random(3)
    rows = [pair(row, prose(generator, 25), chosen=f"Certainly. {row['output']}") for row in clean_rows()]
    assert findings(write_lines(tmp_path / "train.jsonl", rows))[name].verdict == "bad"


def test_uneven_poles_are_found(tmp_path: Path) -> None:
    rows = clean_rows()
    generator = random.Random(2)
    for row in rows:
        poles = ["careful" if generator.random() < 0.95 else "frank" for _ in row["preference_set"]]
        row["preference_details"] = [{"pole": pole, "check_result": None} for pole in poles]
        row["provenance"] = [{"stage": "respond", "model": "some-model"}]
    found = findings(write_lines(tmp_path / "train.jsonl", rows, provenance=False))
    assert found["majority_pole"].verdict == "bad"
    assert found["missing_provenance"].verdict == "ok"


def test_missing_provenance_is_found(tmp_path: Path) -> None:
    found = findings(write_lines(tmp_path / "train.jsonl", clean_rows(), provenance=False))
    assert found["missing_provenance"].verdict == "bad"


def test_splits_and_benchmarks_that_overlap_are_found(tmp_path: Path) -> None:
    rows = clean_rows()
    write_lines(tmp_path / "set" / "train.jsonl", rows)
    write_lines(tmp_path / "set" / "test.jsonl", rows[:30])
    benchmark = tmp_path / "bench.txt"
    benchmark.write_text("\n".join(row["prompt"] for row in rows[60:90]))
    found = findings(tmp_path / "set", benchmarks=[benchmark])
    assert found["train_test_overlap"].verdict == "bad"
    assert found["train_test_overlap"].estimate == pytest.approx(10 / 80)
    assert found["benchmark_overlap"].verdict == "bad"
    assert found["benchmark_overlap"].examples[0].startswith("bench.txt, row")


def test_apart_splits_pass(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", clean_rows(60, seed=1))
    write_lines(tmp_path / "test.jsonl", clean_rows(20, seed=2))
    assert findings(tmp_path)["train_test_overlap"].verdict == "ok"


@pytest.mark.parametrize("layout", ["sft", "pairs", "reward"])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_handful_of_rows_is_no_reason_to_fail(tmp_path: Path, rows: int, layout: str) -> None:
    made = clean_rows(rows, facets=1)
    if layout == "pairs":
        made = [pair(row, "No.") for row in made]
    if layout == "reward":
        made = [
            {"input": f"{row['system']}\n{row['prompt']}", "chosen": row["output"], "rejected": "No."} for row in made
        ]
    found = findings(write_lines(tmp_path / "train.jsonl", made))
    assert len(found) == 29
    if rows == 1:
        assert all(result.verdict != "bad" for result in found.values())


def test_a_large_set_is_sampled_by_whole_instructions(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "train.jsonl", clean_rows(200))
    data = load_data(path, most=90)
    assert data.available == 600
    assert 60 <= len(data.rows) <= 90
    assert data.sampled
    assert data.instructions * 3 == len(data.rows)
    assert [row.prompt for row in load_data(path, most=90).rows] == [row.prompt for row in data.rows]
    assert MOST_ROWS >= 10_000


def test_the_rules_of_opposites_need_both_sides() -> None:
    assert contradiction("Keep the answer brief. Use a formal tone.") is None
    assert contradiction("Avoid jargon. Use precise technical terms.") == (
        "without and with technical terms: “Avoid jargon” and “Use precise technical terms”"
    )
