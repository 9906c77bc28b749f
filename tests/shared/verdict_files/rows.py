"""Rows of each layout, as their publishers write them, and files of them."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Rows = list[dict[str, Any]]


def conversation(*answers: str) -> list[dict[str, str]]:
    return [
        message
        for answer in answers
        for message in ({"role": "user", "content": "And?"}, {"role": "assistant", "content": answer})
    ]


PANDALM: Rows = [
    {
        "idx": number, "motivation_app": "Notes", "cmp_key": "ant-1B_bee-2B", "instruction": "Shorten it.", "input": text,
        "response1": "one two three", "response2": "one", "annotator1": first, "annotator2": second, "annotator3": third,
    }
    for number, (text, first, second, third) in enumerate(
        [("a", 1, 1, 2), ("b", 2, 2, 2), ("b", 0, 1, 2), ("c", 0, 0, 1)]
    )
]  # fmt: skip
MT_BENCH: Rows = [
    {
        "question_id": question, "model_a": "ant", "model_b": "bee", "winner": winner, "judge": judge,
        "conversation_a": conversation("four words are here", "and six more words are here"),
        "conversation_b": conversation("two words", "one"), "turn": turn,
    }
    for question, turn, judge, winner in [
        (81, 1, "expert_1", "model_a"), (81, 1, "expert_2", "model_b"), (81, 2, "expert_1", "tie"),
        (82, 1, "expert_1", "model_a"),
    ]
]  # fmt: skip
MT_BENCH_PAIR: Rows = [
    {
        "question_id": 81 + number, "model_1": "ant", "model_2": "bee", "g1_winner": first, "g2_winner": second,
        "judge": ["gpt-4", "pair-v2"], "g1_judgment": "…", "turn": 1,
    }
    for number, (first, second) in enumerate([("model_1", "model_1"), ("model_1", "model_2"), ("tie", "error")])
]  # fmt: skip
ARENA: Rows = [
    {
        "question_id": f"q{number}", "model_a": "ant", "model_b": other, "winner": winner, "judge": "arena_user_7", "turn": 1,
        "conversation_a": conversation("three words here"), "conversation_b": conversation("- **two** words\n- more"),
        "anony": True, "language": "English", "tstamp": 1.68e9,
    }
    for number, (other, winner) in enumerate(
        [("bee", "model_a"), ("bee", "tie (bothbad)"), ("cat", "model_b"), ("cat", "tie"), ("cat", "model_a")]
    )
]  # fmt: skip
ALPACA_EVAL: Rows = [
    {
        "instruction": f"Question {number}", "output_1": "the baseline says this", "generator_1": "base", "dataset": "koala",
        "output_2": "ours", "generator_2": "ours", "annotator": "gpt", "preference": preference,
    }
    for number, preference in enumerate([1.0, 2.0, 1.5, 0.0, 1.75, None])
]  # fmt: skip
ARENA_HARD: Rows = [
    {"question_id": f"q{number}", "model": "ours", "judge": "gpt-4-1106-preview", "games": [{"score": score} for score in scores]}
    for number, scores in enumerate([("A>>B", "B>A"), ("B>A", "A>>B"), ("A=B", None), ("A>B", "A>B")])
]  # fmt: skip
BATTLES: Rows = [
    {"item": "i1", "first": "ours", "second": "theirs", "outcome": "first", "order": 0, "first_words": 40, "second_words": 20},
    {"item": "i1", "first": "ours", "second": "theirs", "outcome": "second", "order": 1, "first_words": 40, "second_words": 20},
    {"item": "i2", "first": "ours", "second": "theirs", "outcome": "both_bad", "order": 0, "first_words": 10, "second_words": 20},
    {"item": "i3", "first": "ours", "second": "theirs", "outcome": "0.75", "order": 0, "first_words": 15, "second_words": 20},
]  # fmt: skip
COMPARISONS: Rows = [
    {
        "candidate": "ours", "baseline": "base", "row_id": row, "facet": facet, "order": order, "run": run, "verdict": verdict,
        "fault": "" if verdict else "no_verdict", "words": 30, "baseline_words": 20,
    }
    for row, facet, order, run, verdict in [
        ("r1", 0, 0, 0, "win"), ("r1", 0, 0, 1, "both_good"), ("r1", 0, 1, 0, "lose"), ("r1", 1, 0, 0, "both_bad"),
        ("r2", 0, 0, 0, "much_better"), ("r2", 0, 1, 0, ""),
    ]
]  # fmt: skip
RATINGS: Rows = [
    {"item": "i1", "annotator_anna": 1, "annotator_ben": 1},
    {"item": "i2", "annotator_anna": 5, "annotator_ben": 4},
    {"item": "i3", "annotator_anna": 3, "annotator_ben": None},
]
OF_LAYOUT = {
    "pandalm": PANDALM,
    "mt-bench": MT_BENCH,
    "mt-bench-pair": MT_BENCH_PAIR,
    "arena": ARENA,
    "alpaca-eval": ALPACA_EVAL,
    "arena-hard": ARENA_HARD,
    "comparisons": COMPARISONS,
    "battles": BATTLES,
    "ratings": RATINGS,
}


def write(folder: Path, rows: Rows, suffix: str = "jsonl") -> Path:
    """The rows as a file of that kind."""
    path = folder / f"verdicts.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == "json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
