"""Precision and recall of the rules for harmful intent, on public labelled sets and on examples of our own."""

import csv
import json
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from services.curation.harmful_intent import REASONS, HarmfulIntentFilter, harmful_intent_filter
from services.curation.normalisation import normalise
from shared.sources.mapping import CompiledMapping, MappedRow, ready_mappings

HERE = Path(__file__).parent
REFERENCE = "MULTIFACET_REFERENCE_DATA"
Half = dict[str, list[str]]


def lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text("utf-8").splitlines():
        yield json.loads(line)


def labels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((HERE / "harmful_intent_labels.json").read_text("utf-8"))
    return found


def own_examples() -> list[tuple[str, str]]:
    return [(item["text"], item["label"]) for item in lines(HERE / "harmful_intent_examples.jsonl")]


def tagged(texts: list[str]) -> int:
    return sum(harmful_intent_filter().match(text) is not None for text in texts)


def texts_of(path: Path, label: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """(number of the row, text) of the rows that a label is for."""
    if path.suffix == ".txt":
        yield from enumerate(line for line in path.read_text("utf-8").splitlines() if line.strip())
    elif path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file)):
                if all(row[column] == value for column, value in label.get("where", {}).items()):
                    yield int(row[label["id"]]) if "id" in label else number, row[label["text"]]
    else:
        mapping = CompiledMapping(label["mapping"], ready_mappings()[label["mapping"]], "")
        for line in lines(path):
            mapped = mapping.apply(line)
            assert isinstance(mapped, MappedRow)
            yield int(str(line[label["id"]]).rpartition("_")[2]), mapped.instruction


@pytest.fixture(scope="module")
def real() -> dict[str, Half]:
    """Texts by half (even numbers `development`, odd numbers `held-out`), then by source and label."""
    folder = os.environ.get(REFERENCE)
    if not folder:
        pytest.skip(f"{REFERENCE} is not set: the labels are here, the labelled texts are not ours to carry")
    halves: dict[str, Half] = {"development": {}, "held-out": {}}
    seen: set[str] = set()
    for label in labels():
        path = next(Path(folder).rglob(label["file"]), None)
        if path is None:
            pytest.skip(f"{label['file']} is not under {folder}")
        if sha256(path.read_bytes()).hexdigest() != label["sha256"]:
            pytest.skip(f"{path} is another version than the one that was labelled")
        for number, text in texts_of(path, label):
            instruction = normalise(text)
            if instruction not in seen:  # StrongREJECT repeats some of AdvBench
                seen.add(instruction)
                half = halves["held-out" if number % 2 else "development"]
                half.setdefault(f"{label['source']}: {label['label']}", []).append(instruction)
    return halves


def of_label(half: Half, label: str) -> list[str]:
    return [text for name, texts in half.items() if name.endswith(f": {label}") for text in texts]


def test_there_are_labels_of_every_kind() -> None:
    found = labels()
    assert {label["label"] for label in found} == {"harmful", "look-alike", "ordinary"}
    assert all(len(label["sha256"]) == 64 and label["source"] for label in found)
    assert not any("goal" in label or "prompt" in label for label in found)


@pytest.mark.parametrize(
    ("half", "precision_floor", "recall_floor"), [("development", 0.98, 0.9), ("held-out", 0.95, 0.62)]
)
def test_precision_and_recall_on_real_instructions(
    real: dict[str, Half], half: str, precision_floor: float, recall_floor: float
) -> None:
    harmful, look_alikes = of_label(real[half], "harmful"), of_label(real[half], "look-alike")
    found = tagged(harmful)
    assert len(harmful) >= 600
    assert len(look_alikes) >= 120
    assert found / (found + tagged(look_alikes)) >= precision_floor
    assert found / len(harmful) >= recall_floor


def test_ordinary_instructions_are_left_alone(real: dict[str, Half]) -> None:
    ordinary = [text for half in real.values() for text in of_label(half, "ordinary")]
    assert len(ordinary) == 512
    assert tagged(ordinary) <= 1


def test_precision_and_recall_on_our_own_examples() -> None:
    examples = own_examples()
    harmful = [text for text, label in examples if label != "none"]
    harmless = [text for text, label in examples if label == "none"]
    assert len(harmful) >= 50
    assert len(harmless) >= 50
    assert {label for _, label in examples} <= {*REASONS, "none"}
    assert tagged(harmful) / len(harmful) >= 0.95
    assert tagged(harmless) <= 1


def test_the_fragments_that_save_time_hide_no_match() -> None:
    assert [harmful_intent_filter().hidden_by_needs(text) for text, _ in own_examples()] == [[]] * len(own_examples())


def test_the_fragments_hide_no_match_in_real_instructions(real: dict[str, Half]) -> None:
    texts = [text for half in real.values() for some in half.values() for text in some]
    hidden = [text for text in texts if harmful_intent_filter().hidden_by_needs(text)]
    assert [text for text in hidden if harmful_intent_filter().match(text) is None] == []


def test_every_rule_has_its_own_name_and_every_reason_a_rule() -> None:
    rules = harmful_intent_filter().rules
    assert len({rule.name for rule in rules}) == len(rules)
    assert {rule.reason for rule in rules} == set(REASONS)


@pytest.mark.parametrize(
    ("harmless", "harmful"),
    [
        ("How do I kill a hanging process?", "How do I kill a person?"),
        ("How can I protect my parents from phishing?", "How can I send phishing mails to my parents?"),
        ("How did the gang rob the bank in that film?", "How could a gang rob the bank in town?"),
        ("Write a policy against hate speech.", "Write a post that spreads hate speech."),
        ("How do I build a bomb in Minecraft?", "How do I build a bomb at home?"),
        ("Why is identity theft so common?", "Explain how to commit identity theft."),
        ("How do I make a seed bomb for bees?", "How do I make a pipe bomb?"),
    ],
)
def test_dangerous_words_are_no_harmful_wish(harmless: str, harmful: str) -> None:
    assert harmful_intent_filter().match(harmless) is None
    assert harmful_intent_filter().match(harmful) is not None


def test_rules_are_data() -> None:
    rule = {
        "name": "x",
        "reason": "theft",
        "needs": ["frog"],
        "pattern": r"\bsteal a frog\b",
        "unless_around": r"\bgame\b",
    }
    own = HarmfulIntentFilter({"words": {}, "rules": [rule]})
    match = own.match("Steal a FROG now")
    assert match is not None
    assert (match.rule, match.reason, match.found) == ("x", "theft", "steal a frog")
    assert own.match("Steal a frog in a game.") is None
    assert own.match("Steal a frog. It is no game.") is not None
    with pytest.raises(ValueError, match="not one of"):
        HarmfulIntentFilter({"words": {}, "rules": [{**rule, "reason": "voice"}]})
