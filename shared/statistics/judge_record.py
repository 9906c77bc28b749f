"""The judge's own record: what it said of controls, wishes that an answer does not follow by construction.

A judge who approves of what is not there approves too much everywhere (`lenient`); one who does so rather with long answers
takes length for merit (`length_biased`). Neither shows in any single verdict.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from shared.statistics.instruction_sample import InstructionSample
from shared.statistics.intervals import LEVEL, Interval, cluster_mean_interval

LENIENT_FROM = 0.05
"""A judge is lenient where the lower bound of the share of controls missed is above this."""
LENIENT_LEVEL = 0.99
"""Level of that interval. A fair judge who hesitates at one control in twenty stands on the bound itself, so the level decides
how often it is wronged; docs/gates.md counts how often the simulated one is (`noisy`). A judge who deserves the name misses
several times as many."""
BIASED_FROM = 0.02
"""A judge is length-biased where the lower bound of the difference between longer and shorter answers is above this. Of 40 jobs
of 60 rows each, other ones than it was chosen on, all of a biased judge's were above and none of a noisy judge's."""
LONGER_SHARE = 1 / 3
"""So large a share of the answers are the longer ones: a bias that grows with the length shows most among them."""
FEWEST_CONTROLS = 60
"""With fewer controls nothing is said."""

SAMPLED_INSTRUCTIONS = 5000
"""More would narrow the intervals no further than they need to be."""

Verdict = Literal["reliable", "lenient", "length_biased", "unknown"]


class ControlAnswer(msgspec.Struct, frozen=True):
    """What a judge said of one control: the words of the answer that it was shown with, whether it was missed (called followed or
    partly), and the instruction, whose answers count together."""

    words: float
    missed: bool
    instruction: str


class JudgeRecord(msgspec.Struct, frozen=True):
    """`missed` is the share of controls missed, `longer_minus_shorter` how much larger that share is among the answers of more
    than `longer_from` words."""

    verdict: Verdict
    controls: int
    missed: Interval
    longer_minus_shorter: Interval
    longer_from: float | None


def judge_record(answers: Sequence[ControlAnswer]) -> JudgeRecord:
    """The record over all controls, instructions as clusters.

    `length_biased` goes before `lenient`: a judge who is kind to long answers misses many controls too, and what is wrong with it
    is said by the former. `unknown` below FEWEST_CONTROLS, and where one instruction holds all.
    """
    names = [one.instruction for one in answers]
    missed = [float(one.missed) for one in answers]
    share = cluster_mean_interval(missed, names, level=LENIENT_LEVEL)
    cut = float(np.quantile([one.words for one in answers], 1 - LONGER_SHARE)) if answers else None
    difference = _difference(answers, cut)
    verdict: Verdict = "reliable"
    if len(answers) < FEWEST_CONTROLS or share.low is None:
        verdict = "unknown"
    elif difference.low is not None and difference.low > BIASED_FROM:
        verdict = "length_biased"
    elif share.low > LENIENT_FROM:
        verdict = "lenient"
    return JudgeRecord(verdict, len(answers), share, difference, cut)


def _difference(answers: Sequence[ControlAnswer], cut: float | None) -> Interval:
    """Share missed among the longer answers minus that among the others. Each control adds its part of the difference, so
    that answers of one instruction, short and long, vary together in the interval."""
    longer = np.array([cut is not None and one.words > cut for one in answers], dtype=bool)
    missed = np.array([one.missed for one in answers], dtype=np.float64)
    if not longer.any() or longer.all():
        return Interval(None, None, None, LEVEL, len({one.instruction for one in answers}), "nothing")
    means = np.where(longer, missed[longer].mean(), missed[~longer].mean())
    sizes = np.where(longer, longer.sum(), -(~longer).sum()) / len(answers)
    found = cluster_mean_interval((missed - means) / sizes, [one.instruction for one in answers])
    estimate = float(missed[longer].mean() - missed[~longer].mean())
    if found.low is None or found.high is None:
        return Interval(estimate, None, None, found.level, found.clusters, found.method)
    return Interval(estimate, estimate + found.low, estimate + found.high, found.level, found.clusters, found.method)


class ControlCounts:
    """Controls of a collection, gathered answer by answer. Memory is bounded: of more than SAMPLED_INSTRUCTIONS instructions
    those of lowest hash are kept. The answers of one instruction must follow one another."""

    def __init__(self) -> None:
        self._sample: InstructionSample[tuple[float, int, int]] = InstructionSample(
            "judge-record", SAMPLED_INSTRUCTIONS
        )

    def add(self, instruction: str, scores: Mapping[str, float]) -> None:
        """Count the controls of one answer, from the scores of its facet; one that no judge read has none."""
        if scores.get("controls"):
            missed = int(scores.get("controls_missed", 0))
            self._sample.add(instruction, (scores.get("words", 0.0), int(scores["controls"]), missed))

    def record(self) -> JudgeRecord:
        """The record over all that was kept."""
        return judge_record(
            [
                ControlAnswer(words, number < missed, instruction)
                for instruction, (words, controls, missed) in self._sample.items()
                for number in range(controls)
            ]
        )
