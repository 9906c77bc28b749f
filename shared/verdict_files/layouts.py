"""The layouts that are known, and how they are told apart: by the columns that each needs."""

from collections.abc import Callable, Collection, Sequence

import msgspec

from shared.domain.errors import InputRefused
from shared.verdict_files import parsing
from shared.verdict_files.verdicts import Line, Verdict


class Layout(msgspec.Struct, frozen=True):
    """`needed` columns must be there; `used` are read where they are; `unlike` columns say that it is another layout."""

    name: str
    what: str
    needed: tuple[str, ...]
    used: tuple[str, ...]
    parse: Callable[[Line], Sequence[Verdict]]
    unlike: tuple[str, ...] = ()
    begins: str = ""
    """One column at least must begin like this."""

    def fits(self, columns: Collection[str]) -> bool:
        return (
            set(self.needed) <= set(columns)
            and not set(self.unlike) & set(columns)
            and any(column.startswith(self.begins) for column in columns)
        )

    def columns(self, present: Collection[str]) -> list[str]:
        """Those of the columns that are there which the layout reads."""
        wanted = {*self.needed, *self.used}
        return [name for name in present if name in wanted or (self.begins and name.startswith(self.begins))]

    def described(self) -> str:
        also = f", and columns that begin with {self.begins}" if self.begins else ""
        return f"{self.name} ({', '.join(self.needed)}{also})"


_CONVERSATIONS = ("conversation_a", "conversation_b", "conv_metadata")

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            "arena-hard",
            "Arena-Hard Auto v0.1: judgments of a model against the baseline, two games with the sides swapped",
            ("question_id", "model", "games"),
            ("judge",),
            parsing.arena_hard,
        ),
        Layout(
            "alpaca-eval",
            "AlpacaEval: preferences from 1 (the first output) to 2 (the second), 0 for a tie",
            ("instruction", "generator_1", "generator_2", "preference"),
            ("output_1", "output_2", "annotator", "dataset"),
            parsing.alpaca_eval,
        ),
        Layout(
            "pandalm",
            "PandaLM's test set: labels of several people, 0 a tie, 1 and 2 the better response",
            ("annotator1",),
            ("idx", "cmp_key", "instruction", "input", "response1", "response2"),
            parsing.pandalm,
            unlike=("item",),
            begins="annotator",
        ),
        Layout(
            "mt-bench",
            "MT-Bench: judgments of people or GPT-4 on pairs of answers, by turn",
            ("question_id", "model_a", "model_b", "winner", "judge", "turn"),
            _CONVERSATIONS,
            parsing.mt_bench,
            unlike=("tstamp", "anony", "language", "openai_moderation", "conv_metadata"),
        ),
        Layout(
            "mt-bench-pair",
            "MT-Bench: GPT-4's judgments as FastChat writes them, one winner for each order",
            ("question_id", "model_1", "model_2", "g1_winner", "g2_winner"),
            ("judge", "turn"),
            parsing.mt_bench_pair,
        ),
        Layout(
            "arena",
            "Chatbot Arena: votes of visitors on two models",
            ("model_a", "model_b", "winner"),
            ("question_id", "judge", *_CONVERSATIONS),
            parsing.arena,
        ),
        Layout(
            "comparisons",
            "our own: `comparisons.csv` of an evaluation, a judge's verdicts on candidates beside the baseline",
            ("candidate", "baseline", "row_id", "verdict"),
            ("facet", "order", "run", "words", "baseline_words"),
            parsing.comparisons,
        ),
        Layout(
            "battles",
            "our own: one verdict a line, also as annotations are exported",
            ("item", "first", "second", "outcome"),
            ("row_id", "order", "swapped", "annotator", "pair", "kind", "weight", "first_words", "second_words"),
            parsing.battles,
        ),
        Layout(
            "ratings",
            "our own: one item a line, one column an annotator, holding categories or numbers",
            ("item",),
            (),
            parsing.ratings,
            begins="annotator",
        ),
    )
}


def layout_named(name: str, columns: Collection[str], where: str) -> Layout:
    """The layout of that name; raises InputRefused where there is none, or where columns are missing that it needs."""
    layout = LAYOUTS.get(name)
    if layout is None:
        raise InputRefused(f"{name!r} is no layout; choose one of {', '.join(LAYOUTS)}")
    missing = [column for column in layout.needed if column not in columns]
    if not any(column.startswith(layout.begins) for column in columns):
        missing.append(f"{layout.begins}…")
    if missing:
        raise InputRefused(
            f"{where} has no column {', '.join(missing)}, which the layout {name} needs; its columns: {', '.join(columns)}"
        )
    return layout


def layout_of(columns: Collection[str], where: str) -> Layout:
    """The first layout that fits the columns; raises InputRefused where none does."""
    for layout in LAYOUTS.values():
        if layout.fits(columns):
            return layout
    known = "; ".join(layout.described() for layout in LAYOUTS.values())
    raise InputRefused(f"{where} has the columns {', '.join(columns) or 'none'}, of no known layout: {known}")
