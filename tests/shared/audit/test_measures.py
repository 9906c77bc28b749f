"""Each defect, planted in a clean set, turns its finding bad; the clean set passes every measure."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.audit import Finding, audit_data, load_data
from shared.audit.data import MOST_ROWS
from shared.audit.measures.contradictions import contradiction
from shared.audit.page import interval_text
from tests.shared.audit.planted import Row, clean_rows, mirrored_pairs, pair, prose, write_lines

_SIDES = ("chosen", "rejected")
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
    for name in ("blind_classifier", "chosen_longer", "length_difference"):
        assert interval_text(found[name].interval) == "exact: both orders"
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


def _one_order(longer_first: float) -> list[Row]:
    """One order of each pair, of lengths drawn alike; in so many of them the longer answer is the chosen one."""
    generator = random.Random(4)
    rows = []
    for row in clean_rows(150):
        texts = sorted((prose(generator, generator.randint(20, 140)) for _ in range(2)), key=len)
        if generator.random() < longer_first:
            texts.reverse()
        rows.append(pair(row, texts[1], chosen=texts[0]))
    return rows


def test_a_length_shortcut_in_pairs_of_one_order_is_told_from_none(tmp_path: Path) -> None:
    even = findings(write_lines(tmp_path / "even.jsonl", _one_order(0.5)))
    uneven = findings(write_lines(tmp_path / "uneven.jsonl", _one_order(0.85)))
    for name in ("blind_classifier", "chosen_longer", "length_difference"):
        assert (even[name].verdict, uneven[name].verdict) == ("ok", "bad"), name
        interval = even[name].interval
        assert interval is not None
        assert interval.low is not None
        assert interval.high is not None
        assert interval.low < interval.high, "one order alone gives no exact figure"
    assert uneven["blind_classifier"].estimate == pytest.approx(0.85, abs=0.06)
    assert uneven["chosen_longer"].estimate == pytest.approx(0.85, abs=0.05)


def test_a_pair_without_its_mirror_makes_no_figure_exact(tmp_path: Path) -> None:
    pairs = mirrored_pairs(clean_rows())
    for kept in (pairs[1:], [*pairs, pairs[0]]):
        found = findings(write_lines(tmp_path / "train.jsonl", kept))["length_difference"]
        assert found.interval is not None
        assert found.interval.low != found.interval.high


def test_rejected_answers_that_nothing_shows_to_violate_the_message_are_found(tmp_path: Path) -> None:
    rows = clean_rows()
    clean = findings(write_lines(tmp_path / "clean.jsonl", mirrored_pairs(rows)))["rejected_passes"]
    assert (clean.verdict, clean.estimate) == ("ok", 0.0)
    generator = random.Random(8)
    passing = [pair(row, f"{prose(generator, 40)} {row['output']}") for row in rows]
    found = findings(write_lines(tmp_path / "passing.jsonl", passing))["rejected_passes"]
    assert (found.verdict, found.estimate, found.n) == ("bad", 1.0, len(rows))
    for row in rows[:60]:
        row["system"] = "Answer as you like."
    mixed = findings(write_lines(tmp_path / "mixed.jsonl", [pair(row, row["output"] + " Yes.") for row in rows]))
    assert (mixed["rejected_passes"].n, mixed["rejected_passes"].note[:9]) == (len(rows) - 60, "60 of 240")


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


def test_carefulness_alone_is_doubtful_by_word_rules_and_bad_by_poles(tmp_path: Path) -> None:
    rows = _entries(_caution)(clean_rows())
    by_words = findings(write_lines(tmp_path / "words.jsonl", rows))["less_caution"]
    assert (by_words.verdict, by_words.estimate, by_words.threshold) == ("warn", 0.0, "below 0.2 / never")
    for frank, verdict in ((0.5, "ok"), (0.02, "bad")):
        found = findings(write_lines(tmp_path / "poles.jsonl", _with_poles(rows, frank)))["less_caution"]
        assert found.verdict == verdict
        assert found.estimate == pytest.approx(frank, abs=0.08)
        assert found.note == "by the stance of the pole, known of 216 of 240 entries"


def _with_poles(rows: list[Row], frank: float) -> list[Row]:
    """The rows in our layout, each harmlessness entry but every tenth at a pole of the bundled taxonomy."""
    generator = random.Random(9)
    made = []
    for number, row in enumerate(rows):
        entries = [dict(entry) for entry in row["preference_set"]]
        details = []
        for entry in entries:
            pole = None
            if entry["dimension"] == "harmlessness":
                entry["subdimension"] = "risk communication"
                if number % 10:
                    pole = "frank" if generator.random() < frank else "careful"
            details.append({"pole": pole, "check_result": None})
        made.append({**row, "preference_set": entries, "preference_details": details, "provenance": []})
    return made


def test_moot_preferences_are_read_from_our_layout_alone(tmp_path: Path) -> None:
    rows = clean_rows()
    assert findings(write_lines(tmp_path / "sft.jsonl", rows))["moot_preferences"].verdict == "not_applicable"
    ours = _with_poles(rows, 0.5)
    for moot, verdict, share in (([], "ok", 0.0), ([0, 2], "bad", 0.5)):
        made = [{**row, "moot_preferences": moot} for row in ours]
        found = findings(write_lines(tmp_path / "ours.jsonl", made))["moot_preferences"]
        assert (found.verdict, found.estimate, found.n) == (verdict, share, 960)
    assert found.examples[0].startswith(rows[0]["preference_set"][0]["preference"])


def test_splits_and_levels_have_figures_of_their_own(tmp_path: Path) -> None:
    rows = _with_poles(clean_rows(60), 0.5)
    for number, row in enumerate(rows):
        row["split"], row["split_level"] = ("train", "seen") if number < 120 else ("test", "unseen_pair")
        if number >= 150:
            row["split_level"], row["output"] = "unseen_combination", "Deaf to all of it."
    train, combination, pairs = audit_data(load_data(write_lines(tmp_path / "train.jsonl", rows))).levels
    assert [(one.split, one.code, one.facets) for one in (train, combination, pairs)] == [
        ("train", "", 120), ("test", "U1", 30), ("test", "U2", 30)
    ]  # fmt: skip
    assert (train.failed.estimate, combination.failed.estimate, pairs.failed.estimate) == (0.0, 1.0, 0.0)
    assert (train.instructions, train.demands, train.failed.clusters) == (40, 120, 40)
    assert combination.words.estimate == 5
    assert (combination.words.low, combination.words.method) == (None, "no_variation")
    assert pairs.words.low is not None
    assert pairs.words.low > 40
    assert audit_data(load_data(write_lines(tmp_path / "sft.jsonl", clean_rows(3)))).levels == ()


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
@pytest.mark.parametrize("instructions", [1, 2, 3, 6, 12])
def test_a_handful_of_clean_rows_is_never_bad(tmp_path: Path, instructions: int, layout: str) -> None:
    for seed in range(6):
        made = clean_rows(instructions, seed=seed)
        if layout != "sft":
            made = mirrored_pairs(made)
        if layout == "reward":
            made = [
                {"input": f"{row['system']}\n{row['prompt']}", **{side: row[side][1]["content"] for side in _SIDES}}
                for row in made
            ]
        found = findings(write_lines(tmp_path / f"{seed}.jsonl", made))
        assert len(found) == 31
        assert [result for result in found.values() if result.verdict == "bad"] == []


@pytest.mark.parametrize("name", ["failed_checks", "one_character_answers", "missing_provenance"])
def test_a_handful_of_rows_with_a_plain_defect_is_bad_all_the_same(tmp_path: Path, name: str) -> None:
    rows = [{**row, "output": "."} for row in clean_rows(6)]
    assert findings(write_lines(tmp_path / "train.jsonl", rows, provenance=False))[name].verdict == "bad"


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
