"""What is said of a file of verdicts: agreement, majorities, win rates, ratings; by hand, and on published data."""

from math import log10
from pathlib import Path
from typing import Any

import pytest

from shared.domain.errors import InputRefused
from shared.statistics.agreement import cohen_kappa, krippendorff_alpha
from shared.verdict_files import agreement_report, rate_report, read_verdicts
from shared.verdict_files.rate_report import MOST_PAIRS
from tests.shared.verdict_files import rows
from tests.shared.verdict_files.rows import Rows, write
from tests.support.reference import PANDALM_TEST_SET


def test_agreement_of_three_people(tmp_path: Path) -> None:
    found = agreement_report(read_verdicts(write(tmp_path, rows.PANDALM)))
    assert (found.items, found.complete, found.unlabelled) == (4, 4, 0)
    assert found.labels == {"annotator1": 4, "annotator2": 4, "annotator3": 4}
    # Items: first (2 of 3), second (3 of 3), all different, tie (2 of 3).
    assert found.majorities == {"first": 1, "second": 1, "tie": 1}
    assert found.tied_majorities == 1
    pairs = {(pair.first, pair.second): pair for pair in found.pairs}
    assert len(pairs) == 3
    first_two = pairs["annotator1", "annotator2"]
    assert (first_two.items, first_two.same.estimate) == (4, 0.75)
    assert first_two.kappa.estimate == pytest.approx(cohen_kappa([1, 2, 0, 0], [1, 2, 1, 0]))
    assert found.fleiss.clusters == 4
    assert list(found.krippendorff) == ["nominal"]


def test_people_of_whom_each_saw_some_items(tmp_path: Path) -> None:
    found = agreement_report(read_verdicts(write(tmp_path, rows.MT_BENCH)))
    assert found.items == 3
    assert found.labels == {"expert_1": 3, "expert_2": 1}
    assert [(pair.first, pair.second, pair.items) for pair in found.pairs] == [("expert_1", "expert_2", 1)]
    assert (found.complete, found.majorities, found.tied_majorities) == (1, {"first": 1, "tie": 1}, 1)


def test_an_annotator_whose_orders_differ_has_said_tie(tmp_path: Path) -> None:
    turned = [
        rows.MT_BENCH[0] | {"model_a": "bee", "model_b": "ant", "winner": "model_a"},  # expert_1 said ant before
        rows.MT_BENCH[3] | {"model_a": "bee", "model_b": "ant", "winner": "model_b"},  # and here ant again
    ]
    found = agreement_report(read_verdicts(write(tmp_path, [*rows.MT_BENCH, *turned])))
    assert (found.items, found.orders_differ) == (3, 1)
    # Question 81, turn 1: a tie beside expert_2's second; turn 2: a tie; question 82: first in both orders.
    assert (found.majorities, found.tied_majorities) == ({"first": 1, "tie": 1}, 1)


def test_numbers_are_also_measured_by_how_far_they_are_apart(tmp_path: Path) -> None:
    found = agreement_report(read_verdicts(write(tmp_path, rows.RATINGS, "csv")))
    assert list(found.krippendorff) == ["nominal", "ordinal", "interval"]
    assert found.krippendorff["interval"].estimate == pytest.approx(krippendorff_alpha([(1, 1), (5, 4)], "interval"))
    assert (found.items, found.complete) == (3, 2)
    assert found.majorities == {"1": 1, "3": 1}
    assert (found.tied_majorities, found.missing["no_verdict"].lines) == (1, 1)


def test_nothing_but_missing_verdicts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputRefused, match=r"holds no verdict in 1 lines, read as layout ratings: no_verdict \(line 1, annotator1\)"
    ):
        agreement_report(read_verdicts(write(tmp_path, [{"item": "i", "annotator1": None}])))


def test_one_annotator_alone(tmp_path: Path) -> None:
    found = agreement_report(read_verdicts(write(tmp_path, [{"item": str(n), "annotator1": "a"} for n in range(3)])))
    assert (found.pairs, found.fleiss.method, found.krippendorff["nominal"].method) == ((), "nothing", "nothing")
    assert found.majorities == {"a": 3}


def test_rates_of_both_orders(tmp_path: Path) -> None:
    found = rate_report(read_verdicts(write(tmp_path, rows.ARENA_HARD)), baseline="gpt-4-0314")
    (pair,) = found.pairs
    rate = pair.win_rate
    # Lost in both orders, won in both, a tie in one, lost then won.
    assert (rate.first, rate.second) == ("ours", "gpt-4-0314")
    assert rate.interval.estimate == pytest.approx((0 + 1 + 0.5 + 0.5) / 4)
    assert (rate.wins, rate.ties, rate.losses, rate.missing) == (1, 2, 1, 1)
    assert rate.flip_rate.estimate == pytest.approx(1 / 3)
    assert pair.at_equal_length is None
    # Strong verdicts count thrice: 1 + 3 + 1 won, 3 + 1 + 1 lost, 1 tied.
    ratings = {one.model: one.rating.estimate for one in found.ratings.models}
    assert ratings == {"gpt-4-0314": 1000, "ours": pytest.approx(1000 + 400 * log10(5.5 / 5.5), abs=0.01)}
    assert (found.battles, found.ratings.missing) == (8, 1)


def test_rates_without_a_baseline_are_of_all_pairs_that_met(tmp_path: Path) -> None:
    found = rate_report(read_verdicts(write(tmp_path, rows.ARENA)))
    assert [(pair.win_rate.first, pair.win_rate.second) for pair in found.pairs] == [("ant", "bee"), ("ant", "cat")]
    assert [pair.win_rate.interval.estimate for pair in found.pairs] == [0.75, 0.5]
    assert found.pairs[0].win_rate.both_bad == 1
    against = rate_report(read_verdicts(write(tmp_path, rows.ARENA)), baseline="ant")
    assert [(pair.win_rate.first, pair.win_rate.second) for pair in against.pairs] == [("bee", "ant"), ("cat", "ant")]
    assert against.pairs[0].win_rate.interval.estimate == 0.25


def test_many_models_need_a_baseline(tmp_path: Path) -> None:
    names = [f"m{number:02}" for number in range(11)]
    lines: Rows = [
        {"model_a": one, "model_b": other, "winner": "tie"} for one in names for other in names if one < other
    ]
    found = rate_report(read_verdicts(write(tmp_path, lines)), rating_rounds=2)
    assert len(lines) > MOST_PAIRS
    assert (found.pairs, found.notes) == ((), ("55 pairs of models met; give a baseline for win rates against it",))
    assert len(rate_report(read_verdicts(write(tmp_path, lines)), baseline="m03", rating_rounds=2).pairs) == 10


def test_length_is_controlled_where_it_is_known(tmp_path: Path) -> None:
    """Longer answers win nine times in ten; ours is longer four times in five."""
    lines: list[dict[str, Any]] = []
    for longer, outcome, times in ((60, 1, 72), (60, 0, 8), (-60, 1, 2), (-60, 0, 18)):
        lines += [
            {
                "item": f"i{len(lines) + number}", "first": "ours", "second": "theirs", "outcome": outcome,
                "first_words": 200 + longer, "second_words": 200,
            }
            for number in range(times)
        ]  # fmt: skip
    lines.append({"item": "no lengths", "first": "ours", "second": "theirs", "outcome": 1})
    read = read_verdicts(write(tmp_path, lines), texts="lengths")
    found = rate_report(read, baseline="theirs", length_control=True, style_control=True)
    (pair,) = found.pairs
    assert pair.win_rate.interval.estimate == pytest.approx(75 / 101)
    assert pair.at_equal_length is not None
    assert pair.at_equal_length.estimate == pytest.approx(0.5, abs=1e-3)
    assert pair.without_length == 1
    assert found.notes == ("1 of 101 verdicts have no lengths: ratings under style control take their style as equal",)
    assert found.style_ratings is not None
    plain, styled = (
        {one.model: one.rating.estimate or 0.0 for one in ratings.models}["ours"]
        for ratings in (found.ratings, found.style_ratings)
    )
    # Differences by the sum of both lengths are not as symmetric as the differences: a part stays.
    assert plain > 1150
    assert abs(styled - 1000) < 75


def test_markdown_is_controlled_where_texts_are_there(tmp_path: Path) -> None:
    found = rate_report(read_verdicts(write(tmp_path, rows.ARENA), texts="style"), style_control=True)
    assert found.style_ratings is not None
    assert list(found.style_ratings.style) == ["length", "headings", "list items", "bold passages"]


def test_notes_say_what_ratings_cannot_tell(tmp_path: Path) -> None:
    def notes(*battles: tuple[str, str, float]) -> tuple[str, ...]:
        lines: Rows = [
            {"item": str(number), "first": one, "second": other, "outcome": outcome}
            for number, (one, other, outcome) in enumerate(battles)
        ]
        return rate_report(read_verdicts(write(tmp_path, lines)), rating_rounds=2).notes

    assert notes(("a", "b", 1), ("a", "b", 0)) == ()
    assert "won or lost everything" in notes(("a", "b", 1))[0]
    groups = (("a", "b", 1.0), ("a", "b", 0.0), ("c", "d", 1.0), ("c", "d", 0.0))
    assert "never met" in notes(*groups)[0]
    assert "a group of models won everything" in notes(*groups, ("a", "c", 1.0))[0]


def test_ties_that_stand_for_two_orders_are_counted(tmp_path: Path) -> None:
    lines = [rows.MT_BENCH[0] | {"question_id": n, "winner": "tie (inconsistent)", "judge": "gpt-4"} for n in range(3)]
    found = rate_report(read_verdicts(write(tmp_path, [*rows.MT_BENCH, *lines])))
    assert (found.merged_ties, found.battles) == (3, 7)
    # Two people and a judge, of whom two saw the same pair.
    assert found.pairs[0].win_rate.pairs == 7
    assert found.notes == ("3 annotators: what one of them says of one pair of answers counts as a pair",)


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="compares no models"):
        rate_report(read_verdicts(write(tmp_path, rows.RATINGS)))
    with pytest.raises(InputRefused, match=r"'wasp' is no model of verdicts\.jsonl; choose one of ant, bee, cat"):
        rate_report(read_verdicts(write(tmp_path, rows.ARENA)), baseline="wasp")
    with pytest.raises(InputRefused, match="tells no lengths of answers"):
        rate_report(read_verdicts(write(tmp_path, rows.ARENA_HARD), texts="lengths"), length_control=True)


def test_only_lost_verdicts_give_no_rate(tmp_path: Path) -> None:
    lines = [row | {"games": [{"score": None}, {"score": None}]} for row in rows.ARENA_HARD]
    found = rate_report(read_verdicts(write(tmp_path, lines)), baseline="gpt-4-0314")
    assert (found.pairs[0].win_rate.interval.method, found.ratings.models, found.ratings.missing) == ("nothing", (), 8)


@pytest.mark.skipif(
    not PANDALM_TEST_SET.is_file(),
    reason="set MULTIFACET_REFERENCE_DATA to the folder with agreement/pandalm_testset_v1.json",
)
def test_the_pandalm_test_set_as_published() -> None:
    read = read_verdicts(PANDALM_TEST_SET, texts="lengths")
    assert (read.layout, read.lines, read.used, read.missing) == ("pandalm", 999, 999, {})
    found = agreement_report(read)
    assert {(pair.first, pair.second): round(pair.kappa.estimate or 0, 3) for pair in found.pairs} == {
        ("annotator1", "annotator2"): 0.852, ("annotator1", "annotator3"): 0.879, ("annotator2", "annotator3"): 0.862,
    }  # fmt: skip
    assert (found.majorities, found.tied_majorities) == ({"second": 472, "first": 422, "tie": 105}, 0)
    rates = rate_report(read, baseline="llama-7b", length_control=True, rating_rounds=10)
    assert len(rates.pairs) == 4
    assert all((pair.win_rate.interval.high or 1) < 0.5 for pair in rates.pairs)
    assert rates.ratings.models[0].model == "llama-7b"
