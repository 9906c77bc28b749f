"""The facet matrix of one row while its answers settle: filled by programs and, where there is one, a judge; and what follows
from it for each answer."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from services.generation.checklist import Answer, Checked, Checklist
from services.generation.facts import Compared, FactsReview
from shared.domain.facet_matrix import FacetMatrix
from shared.domain.prose import fold, words
from shared.domain.rows import NEUTRAL_INDEX, Contradiction, Facet, Verdict
from shared.stages.facets import Fault


class GivenAnswer(Protocol):
    """An answer as the stage holds it. `programs`: what machine checks say of it, see `validation.program_verdicts`."""

    @property
    def text(self) -> str: ...

    @property
    def attempt(self) -> int: ...

    @property
    def programs(self) -> Mapping[tuple[int, int], str]: ...


class Figures(msgspec.Struct, frozen=True):
    """What a facet keeps of the matrix, see the fields of `Facet`."""

    moot: list[int] = []
    contradictions: list[Contradiction] = []
    scores: dict[str, float] = {}


class MatrixGate:
    """Looks at all answers of a row that stand, and names the faults of those that cannot stand beside the others.

    `verdicts` are those of the latest look, `figures` (by facet index) of the latest look at that facet's answer. Without a
    judge (checklist and review of facts) the matrix holds what programs say, nothing is asked and nobody is at fault.
    """

    def __init__(
        self,
        facets: Sequence[Facet],
        checklist: Checklist | None,
        facts: FactsReview | None,
        minimum_followed: float,
    ) -> None:
        self.verdicts: list[Verdict] = []
        self.figures: dict[int, Figures] = {}
        self._facets = facets
        self._checklist = checklist
        self._facts = facts
        self._minimum_followed = minimum_followed
        self._told_moot = False

    async def look(self, answers: Mapping[int, GivenAnswer]) -> Mapping[int, Fault]:
        """Faults by facet index, NEUTRAL_INDEX for the neutral answer.

        `broken_fact`: a contradiction with the neutral answer that two calls found. `ignored_preference`: see `_ignored`; the
        judge looks again before a facet falls for it. `moot_facet` (final): every answer follows all that this person wants
        anyway; told once, and only when no answer is to be replaced, since it rests on all of them. `outvoted` (final, of the
        neutral answer): every other answer contradicts it and they say the same instead, so it is the one that errs, and the
        contradictions do not count. The faults of the judge's calls; those about the neutral answer are final.
        """
        checked: dict[int, Checked] = {}
        faults: dict[int, Fault] = {}
        if self._checklist is not None and answers.keys() - {NEUTRAL_INDEX}:
            neutral = answers.get(NEUTRAL_INDEX)
            results = await self._checklist.judge(
                [_to_check(index, one) for index, one in answers.items()],
                None if neutral is None else neutral.text,
            )
            for index, result in results.items():
                if not isinstance(result, Fault):
                    checked[index] = result
                elif index == NEUTRAL_INDEX:
                    # A new neutral answer would be another reference than the one that all answers were compared with.
                    faults[index] = Fault(result.reason, result.detail, final=True)
                else:
                    faults[index] = result
        compared = await self._compared(answers, checked, faults)
        for index in compared.keys() & faults.keys():
            checked.pop(index, None)
        breaking = self._breaking(compared, faults)
        matrix = self._matrix_of(answers, checked)
        in_doubt = [
            index
            for index in checked.keys() - {NEUTRAL_INDEX}
            if not breaking.get(index) and self._ignored(matrix, index, answers[index]) is not None
        ]
        if self._checklist is not None and in_doubt:
            neutral = answers.get(NEUTRAL_INDEX)
            checked |= await self._checklist.look_again(
                [_to_check(index, answers[index]) for index in sorted(in_doubt)],
                None if neutral is None else neutral.text,
            )
            matrix = self._matrix_of(answers, checked)
        for index, one in answers.items():
            self.figures[index] = _figures(
                matrix, index, one.text, checked.get(index), compared.get(index, Compared()), breaking.get(index, [])
            )
        if self._checklist is None:
            return {}
        for index in checked.keys() - {NEUTRAL_INDEX}:
            fault = _broken_fact(breaking.get(index, [])) or self._ignored(matrix, index, answers[index])
            if fault is not None:
                faults[index] = fault
        if not faults.keys() - {NEUTRAL_INDEX} and not self._told_moot:
            self._told_moot = True
            for index in checked.keys() - {NEUTRAL_INDEX}:
                if matrix.is_moot(index):
                    faults[index] = Fault("moot_facet", "every answer follows all of its preferences", final=True)
        return faults

    def _matrix_of(self, answers: Mapping[int, GivenAnswer], checked: Mapping[int, Checked]) -> FacetMatrix:
        self.verdicts = _verdicts(self._facets, answers, checked)
        return FacetMatrix(self._facets, self.verdicts)

    async def _compared(
        self, answers: Mapping[int, GivenAnswer], checked: Mapping[int, Checked], faults: dict[int, Fault]
    ) -> dict[int, Compared]:
        """How the judged answers compare with the neutral one in facts; those of a call that failed are added to `faults`."""
        neutral = answers.get(NEUTRAL_INDEX)
        texts = {index: answers[index].text for index in checked if index != NEUTRAL_INDEX}
        if self._facts is None or neutral is None or NEUTRAL_INDEX in faults or not texts:
            return {}
        told = {index: checked[index].contradictions for index in texts}
        found: dict[int, Compared] = {}
        for index, result in (await self._facts.confirm(texts, neutral.text, told)).items():
            if isinstance(result, Fault):
                faults[index] = result
            found[index] = Compared() if isinstance(result, Fault) else result
        return found

    def _breaking(self, compared: Mapping[int, Compared], faults: dict[int, Fault]) -> dict[int, list[Contradiction]]:
        """Contradictions that count, by facet index; the neutral answer is added to `faults` where all others contradict it."""
        found = {index: list(one.contradictions) for index, one in compared.items() if index not in faults}
        if len(found) > 1 and all(found.values()) and _agree(list(found.values())):
            faults[NEUTRAL_INDEX] = Fault("outvoted", f"all {len(found)} other answers contradict it alike", final=True)
            return {}
        return found if NEUTRAL_INDEX not in faults else {}

    def _ignored(self, matrix: FacetMatrix, index: int, answer: GivenAnswer) -> Fault | None:
        """`ignored_preference`: the answer does not follow its own preferences. Two ways:

        their mean utility, moot ones left out, is below `minimum_followed` (halves count: with the default of 0.5 an answer that
        follows two of four passes); or one of them is violated although an answer that was not asked for it follows it. A
        wish that nobody's answer follows may not fit the instruction, so it counts in the mean alone; one that comes about
        unasked and is missing where it was asked for was ignored. What programs decide is left to `enforce_checks` there. A
        minimum of 0 asks for neither.
        """
        if not self._minimum_followed:
            return None
        own = matrix.own_score(index)
        if own is not None and own < self._minimum_followed:
            return Fault(
                "ignored_preference",
                f"follows its own preferences to {own:.2f}; at least {self._minimum_followed:.2f} is asked for",
            )
        ignored = [position for position in matrix.ignored(index) if (index, position) not in answer.programs]
        if ignored:
            return Fault("ignored_preference", f"violates preference {ignored[0]}, which an answer for others follows")
        return None


def _to_check(index: int, answer: GivenAnswer) -> Answer:
    return Answer(index, answer.text, answer.attempt, answer.programs)


def _agree(contradictions: Sequence[Sequence[Contradiction]]) -> bool:
    """Whether all answers say the same instead of what the neutral one says: a word that stands in a contradicting quote of each
    of them and not in what is contradicted; a number, where quotes hold one. Answers that err apart from each other outvote
    nobody."""
    instead = [
        {word for one in several for word in set(_said(one.answer_quote)) - set(_said(one.reference_quote))}
        for several in contradictions
    ]
    numbers = [{word for word in told if any(map(str.isdigit, word))} for told in instead]
    return bool(set.intersection(*(numbers if any(numbers) else instead)))


def _said(quote: str) -> list[str]:
    return words(fold(quote))


def _broken_fact(contradictions: Sequence[Contradiction]) -> Fault | None:
    if not contradictions:
        return None
    return Fault("broken_fact", f"{len(contradictions)} statements contradict the neutral answer")


def _verdicts(
    facets: Sequence[Facet], answers: Mapping[int, GivenAnswer], checked: Mapping[int, Checked]
) -> list[Verdict]:
    """All known entries of the matrix, answer by answer, the neutral one last."""
    verdicts = []
    for index in sorted(answers, key=lambda index: (index == NEUTRAL_INDEX, index)):
        programs = answers[index].programs
        judged = checked[index].verdicts if index in checked else {}
        for facet in facets:
            for position in range(len(facet.preferences)):
                entry = (facet.index, position)
                if entry in programs:
                    verdicts.append(Verdict(index, *entry, programs[entry], "program"))
                elif entry in judged:
                    verdict, quote = judged[entry]
                    verdicts.append(Verdict(index, *entry, verdict, "judge", quote))
    return verdicts


def _figures(
    matrix: FacetMatrix,
    index: int,
    text: str,
    checked: Checked | None,
    compared: Compared,
    contradictions: list[Contradiction],
) -> Figures:
    scores: dict[str, float] = {"words": len(words(text))}
    if checked is not None:
        scores["quote_unverified"] = checked.quote_unverified
        scores["contradictions_unverified"] = checked.contradictions_unverified + compared.unverified
        scores["controls"] = checked.controls
        scores["controls_missed"] = checked.controls_missed
    if index == NEUTRAL_INDEX:
        return Figures(scores=scores)
    own, specificity = matrix.own_score(index), matrix.facet_specificity(index)
    if own is not None:
        scores["own"] = own
    if specificity is not None:
        scores["specificity"] = specificity
    return Figures(matrix.moot(index), contradictions, scores)
