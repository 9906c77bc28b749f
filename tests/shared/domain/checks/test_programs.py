"""What each kind of check says of texts."""

import pytest

from shared.domain.checks import evaluate, validate_check
from shared.domain.checks.reading_level import reading_grade, syllables

EASY = (
    "The cat sat on the mat. It was a warm day. The sun was up. A dog came by and lay down. They both had a nap. " * 2
)
HARD = (
    "Notwithstanding considerable methodological heterogeneity, contemporary investigations consistently demonstrate "
    "substantial correlations between institutional accountability and administrative transparency, particularly where "
    "constitutional arrangements systematically incentivise participatory deliberation among organisational representatives. "
) * 2
CODE = "```python\nprint('one two three four five six')\n```"
CHINESE = "今天天气很好，我们一起去公园散步，然后去吃午饭。下午我们回家休息。"
TABLE = "| a | b |\n|---|---|\n| 1 | 2 |"


def outcome(kind: str, text: str, **parameters: object) -> str:
    return evaluate(validate_check(kind, parameters), text).outcome


@pytest.mark.parametrize(
    ("kind", "parameters", "text", "expected"),
    [
        ("maximum_words", {"words": 3}, "One two three.", "pass"),
        ("maximum_words", {"words": 3}, "One two three four.", "fail"),
        ("maximum_words", {"words": 4}, "It's well-known: 1,000.5 ≈ pi", "pass"),
        ("maximum_words", {"words": 3}, "one/two/three/four", "fail"),
        ("maximum_words", {"words": 3}, "-".join(["word"] * 40), "fail"),
        ("maximum_words", {"words": 2}, f"One two.\n{CODE}", "pass"),
        ("maximum_words", {"words": 2}, CODE, "not_applicable"),
        ("maximum_words", {"words": 5}, CHINESE, "not_applicable"),
        ("minimum_words", {"words": 3}, "One two three.", "pass"),
        ("minimum_words", {"words": 3}, "One two.", "fail"),
        ("minimum_words", {"words": 3}, CHINESE, "not_applicable"),
        ("minimum_words", {"words": 3}, "!!! ??? ...", "fail"),
        ("sentence_count_at_most", {"sentences": 2}, "Dr. Hall paid 3.50 for it, e.g. at noon. Why not?", "pass"),
        ("sentence_count_at_most", {"sentences": 1}, "First. Second.", "fail"),
        ("sentence_count_at_most", {"sentences": 1}, "He said “no.” Then he left.", "fail"),
        ("sentence_count_at_most", {"sentences": 2}, "- one\n- two\n- three", "fail"),
        ("sentence_count_at_most", {"sentences": 1}, "今天很好。我们走。", "fail"),
        ("sentence_count_at_most", {"sentences": 1}, "A line\nthat goes on\nfor three lines.", "pass"),
        ("sentence_count_at_most", {"sentences": 1}, "# Title\n\nOne sentence.", "pass"),
        ("sentence_count_at_most", {"sentences": 1}, CODE, "not_applicable"),
        ("maximum_sentence_words", {"words": 3}, "One two three. Four five.", "pass"),
        ("maximum_sentence_words", {"words": 3}, "One two three four. Five.", "fail"),
        ("maximum_sentence_words", {"words": 3}, CHINESE, "not_applicable"),
        ("format", {"format": "numbered_list"}, "1. First thing\n2. Second thing", "pass"),
        ("format", {"format": "numbered_list"}, "1) First\n\n   more on it\n\n2) Second", "pass"),
        ("format", {"format": "numbered_list"}, "1. First\n1. Second", "pass"),
        ("format", {"format": "numbered_list"}, "1. Only one", "fail"),
        ("format", {"format": "numbered_list"}, "7. First\n3. Second", "fail"),
        ("format", {"format": "numbered_list"}, "- First\n- Second", "fail"),
        ("format", {"format": "numbered_list"}, "1. a\n2. b\n\n" + "Much prose comes after the list. " * 5, "fail"),
        ("format", {"format": "numbered_list"}, "```\n1. a\n2. b\n```", "fail"),
        ("format", {"format": "bullet_list"}, "Here you are:\n\n- First thing to do\n* Second thing to do", "pass"),
        ("format", {"format": "bullet_list"}, "- **Bold** start\n  continued\n- Second", "pass"),
        ("format", {"format": "bullet_list"}, "Plain prose - with a dash - inside.", "fail"),
        ("format", {"format": "plain_prose"}, "Plain prose.\n\nTwo paragraphs of it.", "pass"),
        ("format", {"format": "plain_prose"}, "Plain prose.\n- a\n- b", "fail"),
        ("format", {"format": "plain_prose"}, "**Title**\n\nProse.", "fail"),
        ("format", {"format": "plain_prose"}, "Title\n=====\n\nProse.", "fail"),
        ("format", {"format": "plain_prose"}, TABLE, "fail"),
        ("format", {"format": "plain_prose"}, CODE, "fail"),
        ("format", {"format": "json"}, ' {"a": [1, 2]} ', "pass"),
        ("format", {"format": "json"}, '```json\n{"a": 1}\n```', "pass"),
        ("format", {"format": "json"}, 'Here: {"a": 1}', "fail"),
        ("format", {"format": "json"}, "[1, 2]", "fail"),
        ("format", {"format": "json"}, '{"a": NaN}', "fail"),
        ("format", {"format": "table"}, f"See:\n\n{TABLE}\n\nDone.", "pass"),
        ("format", {"format": "table"}, "| a | b |\n|---|---|", "fail"),
        ("format", {"format": "table"}, "a | b | c in a sentence", "fail"),
        ("format", {"format": "headings"}, "# One\n\ntext\n\n## Two\n\ntext", "pass"),
        ("format", {"format": "headings"}, "# One\n\ntext", "fail"),
        ("format", {"format": "headings"}, "# One\n# Two", "fail"),
        ("format", {"format": "headings"}, "```\n# one\n# two\nx = 1\n```", "fail"),
        ("reading_level_at_most", {"grade": 4}, EASY, "pass"),
        ("reading_level_at_most", {"grade": 12}, HARD, "fail"),
        ("reading_level_at_least", {"grade": 14}, HARD, "pass"),
        ("reading_level_at_least", {"grade": 6}, EASY, "fail"),
        ("reading_level_at_most", {"grade": 4}, "Too short to say.", "not_applicable"),
        ("reading_level_at_most", {"grade": 4}, CHINESE, "not_applicable"),
        ("reading_level_at_most", {"grade": 4}, "Le chat est assis sur le tapis et il fait beau. " * 6, "not_applicable"),
        ("must_include", {"phrases": ["For Example"]}, "Take, for\nexample, this.", "pass"),
        ("must_include", {"phrases": ["don't"]}, "I don’t know.", "pass"),
        ("must_include", {"phrases": ["art"]}, "The party starts.", "fail"),
        ("must_include", {"phrases": ["art", "fun"]}, "This art is dull.", "fail"),
        ("must_include", {"phrases": ["公园"]}, CHINESE, "pass"),
        ("must_include", {"phrases": ["next step"]}, "Your **next step** is rest.", "pass"),
        ("must_include", {"phrases": ["C++"]}, "I use C++.", "pass"),
        ("must_include", {"phrases": ["?"]}, "なぜですか？水です。", "pass"),
        ("must_include_one", {"phrases": ["eight", "8"]}, "It has 8 legs.", "pass"),
        ("must_include_one", {"phrases": ["eight", "8"]}, "It has **EIGHT** of them.", "pass"),
        ("must_include_one", {"phrases": ["eight", "8"]}, "Both: eight, or 8.", "pass"),
        ("must_include_one", {"phrases": ["eight", "8"]}, "It has 18, or eighty.", "fail"),
        ("must_avoid", {"phrases": ["very"]}, "Every day is fine.", "pass"),
        ("must_avoid", {"phrases": ["very"]}, "It is VERY fine.", "fail"),
        ("must_avoid", {"phrases": ["!"]}, "Good. `a != b`", "pass"),
        ("must_avoid", {"phrases": ["!"]}, "Good!", "fail"),
        ("must_avoid", {"phrases": ["?"]}, "なぜですか？水です。", "fail"),
        ("must_avoid", {"phrases": ["!"]}, "すごい！", "fail"),
        ("must_avoid", {"phrases": ["？"]}, "Why so?", "fail"),
        ("must_avoid", {"phrases": ["?"]}, "水です。", "pass"),
        ("must_avoid", {"phrases": ["print"]}, CODE, "not_applicable"),
        ("starts_with", {"phrase": "Short answer:"}, "**Short answer:** yes.", "pass"),
        ("starts_with", {"phrase": "Short answer:"}, "My short answer: yes.", "fail"),
        ("starts_with", {"phrase": "In"}, "Indeed.", "fail"),
        ("ends_with", {"phrase": "Good luck"}, "Do it. Good luck!", "pass"),
        ("ends_with", {"phrase": "Hope that helps!"}, "Do it. *Hope that helps!*", "pass"),
        ("ends_with", {"phrase": "次は何ですか?"}, "水です。次は何ですか？", "pass"),
        ("ends_with", {"phrase": "luck"}, "What a duckluck.", "fail"),
        ("ends_with", {"phrase": "Good luck"}, "Good luck with it.", "fail"),
        ("language", {"language": "fr"}, "Bonjour, voici la réponse à votre question sur la cuisine.", "pass"),
        ("language", {"language": "fr"}, "Hello, here is the answer to your question on cooking.", "fail"),
        ("language", {"language": "fr"}, "Oui.", "not_applicable"),
        ("language", {"language": "zh"}, CHINESE, "pass"),
        ("language", {"language": "fr"}, CODE, "not_applicable"),
    ],
)  # fmt: skip
def test_outcome(kind: str, parameters: dict[str, object], text: str, expected: str) -> None:
    assert outcome(kind, text, **parameters) == expected


def test_a_language_switch_half_way_through_is_seen() -> None:
    english = "This is the rest of the answer, which was not written in the language that was asked for. " * 40
    assert outcome("language", "Bonjour, voici la réponse. " + english, language="fr") == "fail"


def test_the_detail_says_what_was_seen() -> None:
    assert evaluate(validate_check("maximum_words", {"words": 2}), "one two three").detail == "3 words, at most 2"


def test_reading_grade_is_the_flesch_kincaid_formula() -> None:
    # 32 words of one syllable in 4 sentences: 0.39 x 8 + 11.8 x 1 - 15.59
    text = "The cat sat on the mat at noon. " * 4
    assert reading_grade(text) == pytest.approx(0.39 * 8 + 11.8 - 15.59)


def test_syllables_follow_hyphenation() -> None:
    assert [syllables(word) for word in ("cat", "paper", "computer", "x" * 500)] == [1, 2, 3, 1]
