"""Precision and recall of the persona rules, on labelled real instructions and on examples of our own."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from services.curation.normalisation import normalise
from services.curation.personas import PersonaFilter, persona_filter
from shared.sources.mapping import CompiledMapping, MappedRow, ready_mappings

HERE = Path(__file__).parent
REFERENCE = "MULTIFACET_REFERENCE_DATA"
FILES = {
    "koala_test_set.jsonl": "koala",
    "mt_bench__question.jsonl": "mt_bench",
    "user_oriented_instructions.jsonl": "self_instruct",
}
Labelled = list[tuple[str, str]]


def lines(path: Path) -> Iterator[dict[str, object]]:
    for line in path.read_text("utf-8").splitlines():
        yield json.loads(line)


def own_examples() -> Labelled:
    return [(str(item["text"]), str(item["label"])) for item in lines(HERE / "persona_examples.jsonl")]


def precision_and_recall(labelled: Labelled) -> tuple[float, float]:
    found = [(label != "none", persona_filter().match(text) is not None) for text, label in labelled]
    true_positives = sum(wanted and got for wanted, got in found)
    return true_positives / sum(got for _, got in found), true_positives / sum(wanted for wanted, _ in found)


@pytest.fixture(scope="module")
def real() -> dict[str, Labelled]:
    """The labelled real instructions by half: even ids `development`, odd ids `held-out`."""
    folder = os.environ.get(REFERENCE)
    if not folder:
        pytest.skip(f"{REFERENCE} is not set: the labels are here, the labelled texts are not ours to carry")
    texts: dict[tuple[str, str], str] = {}
    for name, mapping in FILES.items():
        path = next(Path(folder).rglob(name), None)
        if path is None:
            pytest.skip(f"{name} is not under {folder}")
        compiled = CompiledMapping(mapping, ready_mappings()[mapping], "")
        for row in lines(path):
            mapped = compiled.apply(row)
            assert isinstance(mapped, MappedRow)
            texts[name, str(row.get("question_id", row.get("id")))] = normalise(mapped.instruction)
    halves: dict[str, Labelled] = {"development": [], "held-out": []}
    for label in lines(HERE / "persona_labels.jsonl"):
        identifier = str(label["id"])
        half = "held-out" if int(identifier.rpartition("_")[2]) % 2 else "development"
        halves[half].append((texts[str(label["file"]), identifier], str(label["label"])))
    return halves


def test_there_are_labels_enough() -> None:
    labels = list(lines(HERE / "persona_labels.jsonl"))
    assert len({(label["file"], label["id"]) for label in labels}) == len(labels) == 512
    assert {str(label["file"]) for label in labels} == set(FILES)
    assert {str(label["label"]) for label in labels} == {"role", "voice", "audience", "manner", "none"}
    assert sum(label["label"] != "none" for label in labels) == 57
    assert all(set(label) == {"file", "id", "label", "why"} and label["why"] for label in labels)


@pytest.mark.parametrize(("half", "recall_floor"), [("development", 0.97), ("held-out", 0.8)])
def test_precision_and_recall_on_real_instructions(real: dict[str, Labelled], half: str, recall_floor: float) -> None:
    precision, recall = precision_and_recall(real[half])
    assert len(real[half]) == 256
    assert precision >= 0.95
    assert recall >= recall_floor


def test_precision_and_recall_on_our_own_examples() -> None:
    examples = own_examples()
    assert len(examples) >= 60
    precision, recall = precision_and_recall(examples)
    assert precision >= 0.95
    assert recall >= 0.95


def test_the_fragments_that_save_time_hide_no_match() -> None:
    assert [persona_filter().hidden_by_needs(text) for text, _ in own_examples()] == [[]] * len(own_examples())


def test_every_rule_has_its_own_name_and_finds_something() -> None:
    rules = persona_filter().rules
    assert len({rule.name for rule in rules}) == len(rules)
    fired = {match.rule for text, _ in own_examples() if (match := persona_filter().match(text))}
    assert len(fired) >= 0.7 * len(rules)


@pytest.mark.parametrize(
    ("asked", "wished"),
    [
        ("Is it rude to be blunt?", "Is it rude to be late? Be blunt."),
        ("What does it mean to act as a guarantor?", "I want you to act as a guarantor."),
        ("How do you explain death to a child?", "Explain death to a child."),
        ("How to explain a layoff to my children?", "Explain how to define a layoff for children."),
        ("What tone should I use in an email to HR?", "Write an email to HR. The tone should be warm."),
        ("How do I think like a chess player?", "How do I win? Think like a chess player."),
        ('What does "in layman\'s terms" mean?', "What does inflation mean in layman's terms?"),
        ("Should we keep it short in a cover letter?", "Should we marry? Keep it short."),
        ("Did he briefly work as a teacher?", "Briefly describe his work as a teacher."),
    ],
)
def test_a_question_about_manners_and_roles_is_no_wish_for_them(asked: str, wished: str) -> None:
    assert persona_filter().match(asked) is None
    assert persona_filter().match(wished) is not None


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Answer concisely.", "answer_so"),
        ("Please answer briefly", "answer_so"),
        ("Briefly explain TCP", "answer_so"),
        ("Could you give a short answer", "short_answer"),
        ("Think like an economist", "think_like"),
        ("From the perspective of a medieval peasant", "from_a_perspective"),
    ],
)
def test_short_wishes_are_found(text: str, rule: str) -> None:
    match = persona_filter().match(text)
    assert match is not None
    assert match.rule == rule


def test_what_a_long_instruction_quotes_is_left_alone() -> None:
    article = "The harbour was built in 1870 and has been extended twice since. " * 30
    quoted = f"Summarise the text.\n\n{article} You are a pirate, he said, so act as a pirate. {article}"
    assert persona_filter().match(quoted) is None
    assert persona_filter().match(f"You are a pirate. {article}") is not None
    assert persona_filter().match(f"{article}\n\nExplain this like I’m five.") is not None


def test_rules_are_data() -> None:
    rule = {"name": "x", "reason": "role", "needs": ["frog"], "pattern": r"\b(?:<animal>)\b"}
    own = PersonaFilter({"words": {"animal": ["frog", "toad"]}, "rules": [rule]})
    match = own.match("Speak, FROG")
    assert match is not None
    assert (match.rule, match.reason, match.found) == ("x", "role", "frog")
    but_not_here = PersonaFilter({"words": {"animal": ["frog"]}, "rules": [{**rule, "unless": r"\Ano\b"}]})
    assert but_not_here.match("Yes. No frog") is None
    assert but_not_here.match("No frog. A frog") is not None
    with pytest.raises(ValueError, match="word list <animal>"):
        PersonaFilter({"words": {}, "rules": [rule]})
    with pytest.raises(msgspec.ValidationError):
        PersonaFilter({"words": {}, "rules": [{**rule, "unknown": 1}]})
