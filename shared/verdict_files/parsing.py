"""One line of each layout as verdicts. What a verdict's words mean is told here, with where the layout comes from.

Outcomes are the first model's: 1 it wins, 0 it loses, 0.5 a tie. A line that cannot be used at all raises LineRefused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from shared.statistics.pairwise import Battle
from shared.verdict_files.fields import is_empty, length_and_style, needed_text, number, optional_text, two_models
from shared.verdict_files.verdicts import NO_VERDICT, UNKNOWN_VERDICT, Line, LineRefused, Texts, Verdict

STRONG_WEIGHT = 3

_WINNERS = {
    "model_a": (1.0, ""),
    "model_b": (0.0, ""),
    "tie": (0.5, ""),
    "tie (bothbad)": (0.5, "both_bad"),
    "tie (inconsistent)": (0.5, "inconsistent"),
}
_SCORES = {
    "A>>B": (1.0, STRONG_WEIGHT),
    "A>B": (1.0, 1),
    "A=B": (0.5, 1),
    "B=A": (0.5, 1),
    "B>A": (0.0, 1),
    "B>>A": (0.0, STRONG_WEIGHT),
    "A<B": (0.0, 1),
    "A<<B": (0.0, STRONG_WEIGHT),
    "B<A": (1.0, 1),
    "B<<A": (1.0, STRONG_WEIGHT),
}
_OUTCOMES = {
    "first": (1.0, ""),
    "second": (0.0, ""),
    "tie": (0.5, ""),
    "both_good": (0.5, "both_good"),
    "both_bad": (0.5, "both_bad"),
}


_COMPARISONS = {
    "win": (1.0, "", 1),
    "both_good": (0.5, "both_good", 1),
    "both_bad": (0.5, "both_bad", 1),
    "lose": (0.0, "", 1),
    "much_better": (1.0, "", STRONG_WEIGHT),
    "better": (1.0, "", 1),
    "same": (0.5, "", 1),
    "worse": (0.0, "", 1),
    "much_worse": (0.0, "", STRONG_WEIGHT),
}


def pandalm(line: Line) -> Sequence[Verdict]:
    """PandaLM (Wang et al. 2024, arXiv 2306.05087): `cmp_key` names the models of response 1 and 2, each annotator column holds 0
    (a tie), 1 or 2. All items of one instruction and input are one cluster."""
    fields = line.fields
    item = needed_text(fields, "idx") if "idx" in fields else f"line {line.row + 1}"
    first, second = "response 1", "response 2"
    if "cmp_key" in fields:
        first, _, second = needed_text(fields, "cmp_key").partition("_")
        if not second:
            raise LineRefused("bad_value", f"`cmp_key` {fields['cmp_key']!r} names no two models, as in `one_other`")
    two_models(first, second)
    texts = [optional_text(fields, name) for name in ("instruction", "input")]
    instruction = "\n".join(texts) if any(texts) else item
    lengths = _lengths(fields.get("response1"), fields.get("response2"), line.texts)
    outcomes = {1: 1.0, 2: 0.0, 0: 0.5}
    found = []
    for annotator in (name for name in fields if name.startswith("annotator")):
        outcome, missing = _looked_up(outcomes, fields[annotator], number(fields[annotator]))
        battle = Battle(instruction, first, second, outcome, pair=f"{item} {annotator}", **lengths)
        found.append(Verdict(item, annotator, battle, missing=missing))
    return found


def mt_bench(line: Line) -> Sequence[Verdict]:
    """MT-Bench (Zheng et al. 2023, arXiv 2306.05685), released as `mt_bench_human_judgments`. GPT-4's verdicts stand for both
    orders at once: `tie (inconsistent)` where they differed. Without an order known, the first model is taken as shown first."""
    turn, judge = needed_text(line.fields, "turn"), needed_text(line.fields, "judge")
    return _of_two_models(line, needed_text(line.fields, "question_id"), judge, f"turn {turn}", number(turn))


def mt_bench_pair(line: Line) -> Sequence[Verdict]:
    """MT-Bench as FastChat's `gen_judgment.py` writes it: the winner of both games by model, the second with the sides swapped;
    `error` where the judge's words held no verdict. `judge` is a list, the model first."""
    fields = line.fields
    first, second = needed_text(fields, "model_1"), needed_text(fields, "model_2")
    two_models(first, second)
    question, turn = needed_text(fields, "question_id"), optional_text(fields, "turn") or "1"
    judge = fields.get("judge")
    annotator = str(judge[0]) if isinstance(judge, list) and judge else optional_text(fields, "judge") or "judge"
    outcomes = {"model_1": 1.0, "model_2": 0.0, "tie": 0.5}
    found = []
    for order, winner in enumerate((fields["g1_winner"], fields["g2_winner"])):
        outcome = outcomes.get(winner) if isinstance(winner, str) else None
        missing = (
            "" if outcome is not None else NO_VERDICT if is_empty(winner) or winner == "error" else UNKNOWN_VERDICT
        )
        battle = Battle(
            question,
            first,
            second,
            outcome,
            order=order,
            pair=f"turn {turn} {annotator}",
            **_lengths(None, None, line.texts),
        )
        found.append(Verdict(f"{question} turn {turn}", annotator, battle, missing=missing))
    return found


def arena(line: Line) -> Sequence[Verdict]:
    """Chatbot Arena (Chiang et al. 2024, arXiv 2403.04132): one vote a line, on a prompt of the visitor's own."""
    question = optional_text(line.fields, "question_id") or f"line {line.row + 1}"
    return _of_two_models(line, question, optional_text(line.fields, "judge") or "visitor", "", None)


def alpaca_eval(line: Line) -> Sequence[Verdict]:
    """AlpacaEval (`annotations.json`): `generator_1` is the baseline. `preference` is 1 where its output is better, 2 where the
    other's is, between them the weighted judge's expectation; 0 is a tie of older files, null a judge that gave nothing."""
    fields = line.fields
    model, baseline = needed_text(fields, "generator_2"), needed_text(fields, "generator_1")
    two_models(model, baseline)
    instruction = needed_text(fields, "instruction")
    annotator = optional_text(fields, "annotator") or "judge"
    preference = number(fields["preference"])
    outcome, missing = None, NO_VERDICT if is_empty(fields["preference"]) else UNKNOWN_VERDICT
    if preference is not None and (preference == 0 or 1 <= preference <= 2):
        outcome, missing = (0.5 if preference == 0 else preference - 1), ""
    battle = Battle(
        instruction, model, baseline, outcome, pair=annotator,
        **_lengths(fields.get("output_2"), fields.get("output_1"), line.texts),
    )  # fmt: skip
    return [Verdict(instruction, annotator, battle, missing=missing)]


def arena_hard(line: Line) -> Sequence[Verdict]:
    """Arena-Hard Auto v0.1 (Li et al. 2024, arXiv 2406.11939): the file does not name the baseline, which is A in the first game
    and B in the second. Strong verdicts (`>>`) weigh three."""
    fields = line.fields
    question, model = needed_text(fields, "question_id"), needed_text(fields, "model")
    two_models(model, line.baseline)
    annotator = optional_text(fields, "judge") or "judge"
    games = fields["games"]
    if not isinstance(games, list) or not 1 <= len(games) <= 2:
        raise LineRefused("bad_games", f"`games` is {repr(games)[:60]}; a list of one or two games is needed")
    found = []
    for number_of_game in range(2):
        game = games[number_of_game] if number_of_game < len(games) else None
        score = game.get("score") if isinstance(game, Mapping) else None
        known = _SCORES.get(score.strip().strip("[]")) if isinstance(score, str) else None
        outcome, weight = known or (None, 1)
        missing = "" if known else NO_VERDICT if is_empty(score) else UNKNOWN_VERDICT
        if outcome is not None and number_of_game == 0:
            outcome = 1 - outcome
        battle = Battle(
            question, model, line.baseline, outcome, order=1 - number_of_game, weight=weight, pair=annotator,
            **_lengths(None, None, line.texts),
        )  # fmt: skip
        found.append(Verdict(question, annotator, battle, missing=missing))
    return found


def battles(line: Line) -> Sequence[Verdict]:
    """Our own: `outcome` is first, second, tie, both_good or both_bad, or a number from 0 to 1; `order` 0 where the first answer
    was shown first, else 1, and exported annotations say it as `swapped`. Items of one `row_id` are one cluster."""
    fields = line.fields
    item, first, second = (needed_text(fields, name) for name in ("item", "first", "second"))
    two_models(first, second)
    value = fields["outcome"]
    outcome, kind, missing = None, "", NO_VERDICT if is_empty(value) else UNKNOWN_VERDICT
    if isinstance(value, str) and value.strip().lower() in _OUTCOMES:
        (outcome, kind), missing = _OUTCOMES[value.strip().lower()], ""
    elif (share := number(value)) is not None and 0 <= share <= 1:
        outcome, missing = share, ""
    swapped = int(str(fields.get("swapped")).strip().lower() in ("true", "1"))
    order, weight = _whole(fields, "order", swapped, (0, 1)), _whole(fields, "weight", 1, range(1, 1001))
    first_words, second_words = (_whole(fields, f"{side}_words", 0, range(10**9)) for side in ("first", "second"))
    annotator, pair = optional_text(fields, "annotator") or "judge", optional_text(fields, "pair")
    battle = Battle(
        optional_text(fields, "row_id") or item, first, second, outcome, order=order, kind=optional_text(fields, "kind") or kind,
        pair=f"{item} {pair} {annotator}", weight=weight, first_words=first_words, second_words=second_words,
    )  # fmt: skip
    return [Verdict(f"{item} {pair}".strip(), annotator, battle, missing=missing)]


def comparisons(line: Line) -> Sequence[Verdict]:
    """Our own evaluations: `verdict` is the candidate's, of four or of five, empty where it was lost. Runs are one opinion."""
    fields = line.fields
    candidate, baseline, row = (needed_text(fields, name) for name in ("candidate", "baseline", "row_id"))
    two_models(candidate, baseline)
    value = fields["verdict"]
    known = _COMPARISONS.get(value.strip()) if isinstance(value, str) else None
    outcome, kind, weight = known or (None, "", 1)
    facet = optional_text(fields, "facet")
    words = [
        _whole(fields, name, 0, range(10**9)) if line.texts != "none" else 0 for name in ("words", "baseline_words")
    ]
    battle = Battle(
        row, candidate, baseline, outcome, order=_whole(fields, "order", 0, (0, 1)), kind=kind, pair=facet, weight=weight,
        first_words=words[0], second_words=words[1],
    )  # fmt: skip
    missing = "" if known else NO_VERDICT if is_empty(value) else UNKNOWN_VERDICT
    return [Verdict(f"{row} {facet}".strip(), f"run {optional_text(fields, 'run') or '0'}", battle, missing=missing)]


def ratings(line: Line) -> Sequence[Verdict]:
    """Our own: categories or numbers by annotator; an empty place is a rating that nobody gave."""
    item = needed_text(line.fields, "item")
    found = []
    for annotator, value in line.fields.items():
        if annotator.startswith("annotator"):
            label = None if is_empty(value) else value if isinstance(value, str | int | float) else str(value)
            found.append(Verdict(item, annotator, label=label, missing=NO_VERDICT if label is None else ""))
    return found


def _of_two_models(line: Line, question: str, judge: str, pair: str, turn: float | None) -> Sequence[Verdict]:
    fields = line.fields
    first, second = needed_text(fields, "model_a"), needed_text(fields, "model_b")
    two_models(first, second)
    winner = fields["winner"]
    known = _WINNERS.get(winner.strip().lower()) if isinstance(winner, str) else None
    outcome, kind = known or (None, "")
    missing = "" if known else NO_VERDICT if is_empty(winner) else UNKNOWN_VERDICT
    answers = _answer(fields.get("conversation_a"), turn), _answer(fields.get("conversation_b"), turn)
    lengths = _lengths(*answers, line.texts)
    if line.texts != "none" and answers == (None, None) and isinstance(fields.get("conv_metadata"), Mapping):
        lengths = _counted(fields["conv_metadata"], line.texts)
    battle = Battle(question, first, second, outcome, kind=kind, pair=f"{pair} {judge}".strip(), **lengths)
    return [Verdict(f"{question} {pair}".strip(), judge, battle, missing=missing)]


def _answer(conversation: Any, turn: float | None) -> str | None:
    """The model's words in a conversation: of one turn, or of all."""
    if not isinstance(conversation, list):
        return None
    said: list[str] = [
        message["content"]
        for message in conversation
        if isinstance(message, Mapping)
        and message.get("role") == "assistant"
        and isinstance(message.get("content"), str)
    ]
    if turn is not None and 1 <= turn <= len(said):
        return said[int(turn) - 1]
    return "\n".join(said) if said else None


def _lengths(first: Any, second: Any, texts: Texts) -> dict[str, Any]:
    (first_words, first_style), (second_words, second_style) = (
        length_and_style(text, texts) for text in (first, second)
    )
    return {
        "first_words": first_words,
        "second_words": second_words,
        "first_style": first_style,
        "second_style": second_style,
    }


def _counted(metadata: Mapping[str, Any], texts: Texts) -> dict[str, Any]:
    """Lengths in tokens and counts of Markdown, as newer Arena files have them instead of texts."""

    def count(name: str) -> int:
        value = metadata.get(name)
        if isinstance(value, Mapping):
            return sum(int(part) for part in value.values() if isinstance(part, int | float))
        return int(number(value) or 0)

    found: dict[str, Any] = {}
    for side, place in (("a", "first"), ("b", "second")):
        found[f"{place}_words"] = count(f"sum_assistant_{side}_tokens")
        style = tuple(float(count(f"{mark}_count_{side}")) for mark in ("header", "list", "bold"))
        found[f"{place}_style"] = style if texts == "style" else ()
    return found


def _looked_up(outcomes: Mapping[int, float], value: Any, as_number: float | None) -> tuple[float | None, str]:
    if as_number is not None and as_number in outcomes:
        return outcomes[int(as_number)], ""
    return None, NO_VERDICT if is_empty(value) else UNKNOWN_VERDICT


def _whole(fields: Mapping[str, Any], name: str, default: int, allowed: Sequence[int]) -> int:
    value = fields.get(name)
    if is_empty(value):
        return default
    found = number(value)
    if found is None or found not in allowed:
        raise LineRefused(
            "bad_value", f"`{name}` is {value!r}; a whole number from {allowed[0]} to {allowed[-1]} is needed"
        )
    return int(found)
