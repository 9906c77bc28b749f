"""What is read out of a judge's prose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.evaluation.judging.verdicts import tagged_choice, tagged_score

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


def test_the_scale_of_five_is_read() -> None:
    assert tagged_choice("[[B >> A]]", ("a>>b", "a>b", "a=b", "b>a", "b>>a")).value == "b>>a"


@pytest.mark.parametrize(("text", "fault"), [("A wins.", "no_verdict"), ("[[C]]", "out_of_range")])
def test_what_is_no_choice_is_lost_with_a_reason(text: str, fault: str) -> None:
    assert tagged_choice(text, CHOICES).fault == fault


PROSE = st.text() | st.text("[]RESULT0123456789.:-/ score*(\n").map(lambda text: text + "[RESULT]")


@given(PROSE | st.floats().map(lambda number: f"[RESULT] {number}"))
def test_no_text_raises_or_gives_a_score_out_of_range(text: str) -> None:
    score = tagged_score(text, 1, 5, whole=True)
    assert score.value in (None, 1.0, 2.0, 3.0, 4.0, 5.0)
    assert (score.value is None) is bool(score.fault)
    choice = tagged_choice(text, CHOICES)
    assert choice.value is None or choice.value in CHOICES
