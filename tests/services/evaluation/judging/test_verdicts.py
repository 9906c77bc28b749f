"""What is read out of a judge's prose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.evaluation.judging.verdicts import settled_lines, tagged_choice, tagged_score

CHOICES = ("a", "b", "both_good", "both_bad")


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Fine.\n[RESULT] 4", 4.0),
        ("[RESULT]: (4)", 4.0),
        ("[RESULT] **2**", 2.0),
        ("Rating: [[5]]", 5.0),
        ("**Score:** 3/5", 3.0),
        ("The score is 2.", 2.0),
        ("First I thought [RESULT] 5, but then\n[RESULT] 1", 1.0),
        ("Score: 4", 4.0),
        ("**Rating (1-5):** 2", 2.0),
        ("[[4]]", 4.0),
        ("[RESULT] 4 out of 5", 4.0),
        ("[RESULT] 2\n(Score: 5 would need an example.)", 2.0),
        ("It prints [[1, 2], [3, 4]] as asked.\nScore: 5", 5.0),
    ],
)
def test_the_last_tagged_number_is_the_score(text: str, score: float) -> None:
    assert tagged_score(text, 1, 5, whole=True).value == score


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no_verdict"),
        ("A good answer, 4 of its 5 parts hold.", "no_verdict"),
        ("[RESULT] excellent", "no_verdict"),
        ("[RESULT] 7", "out_of_range"),
        ("[RESULT] 0", "out_of_range"),
        ("[RESULT] -3", "out_of_range"),
        ("[RESULT] 3.5", "out_of_range"),
        ("[RESULT] 4\n[RESULT] 9", "out_of_range"),
        ("[RESULT] 3-4", "out_of_range"),
        ("[RESULT] 4,5", "out_of_range"),
        ("Score: 4/10", "out_of_range"),
        ("A score of 5 would need an example, a score 3 less.", "no_verdict"),
        ("It prints [[1, 2], [3, 4]].", "no_verdict"),
    ],
)
def test_what_is_no_score_is_lost_with_a_reason(text: str, fault: str) -> None:
    verdict = tagged_score(text, 1, 5, whole=True)
    assert (verdict.value, verdict.fault) == (None, fault)


def test_halves_count_where_they_may() -> None:
    assert tagged_score("Rating: [[7.5]]", 1, 10, whole=False).value == 7.5


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("[[A]]", "a"),
        ("[[Both Good]]", "both_good"),
        ("[[both-bad]]", "both_bad"),
        ("[RESULT] B", "b"),
        ("[[a]] at first, in the end [[b]]", "b"),
    ],
)
def test_a_choice_is_read_whatever_its_spelling(text: str, choice: str) -> None:
    assert tagged_choice(text, CHOICES).value == choice


@pytest.mark.parametrize(("text", "choice"), [("[[B >> A]]", "b>>a"), ("[[A<<B]]", "b>>a"), ("[[a = b]]", "a=b")])
def test_the_scale_of_five_is_read(text: str, choice: str) -> None:
    assert tagged_choice(text, ("a>>b", "a>b", "a=b", "b>a", "b>>a")).value == choice


def test_of_a_cut_text_only_whole_lines_of_a_tag_are_settled() -> None:
    assert settled_lines("Score: 5 is too much.\n[RESULT] 2\nRating: [[3]]\n[RESULT] 1") == "[RESULT] 2\nRating: [[3]]"
    assert settled_lines("[RESULT] 1") == ""


def test_a_flood_of_spaces_behind_a_tag_is_no_verdict() -> None:
    flood = "[RESULT]" + " " * 100_000
    assert tagged_score(flood, 1, 5, whole=True).fault == "no_verdict"
    assert tagged_choice(flood, CHOICES).fault in {"no_verdict", "out_of_range"}


@pytest.mark.parametrize(("text", "fault"), [("A wins.", "no_verdict"), ("[[C]]", "out_of_range")])
def test_what_is_no_choice_is_lost_with_a_reason(text: str, fault: str) -> None:
    assert tagged_choice(text, CHOICES).fault == fault


PROSE = st.text() | st.text("[]RESULT0123456789.:-/ score*(\n").map(lambda text: text + "[RESULT]")


@given(PROSE | st.floats().map(lambda number: f"[RESULT] {number}"))
def test_no_text_raises_or_gives_a_score_out_of_range(text: str) -> None:
    score = tagged_score(text, 1, 5, whole=True)
    assert score.value in (None, 1.0, 2.0, 3.0, 4.0, 5.0)
    assert (score.value is None) is bool(score.fault)
    assert set(settled_lines(text).splitlines()) <= set(text.splitlines())
    choice = tagged_choice(text, CHOICES)
    assert choice.value is None or choice.value in CHOICES
