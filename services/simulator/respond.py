"""Answers of class `respond`: a text that depends on instruction and system message and satisfies its machine checks.

The checks that stand in the system message set bounds (`demands`); a candidate text is made within them and every check is
then evaluated on it. Candidates that drop more and more of what nobody demanded follow until one passes.
"""

from collections.abc import Sequence
from functools import partial

from services.simulator.avoidance import Avoidance
from services.simulator.chance import Chance, generator_of
from services.simulator.demands import Demands, fold
from services.simulator.echo import echo_groups
from services.simulator.facts import facts_of
from services.simulator.gather import Draft
from services.simulator.layout import LISTS, render, sentences_of_body
from services.simulator.phrases import fill, load_phrases
from services.simulator.recipes import Recipe, recipes
from services.simulator.stream import English, Foreign, Stream
from services.simulator.tongue import answer_language
from services.simulator.wanted import load_wanted, sentence_with
from services.simulator.words import named, topics_of, words_of
from shared.domain.checks import canonical_sentence, evaluate, find_checks
from shared.domain.checks.phrases import contains_phrase
from shared.domain.checks.reading_level import reading_grade
from shared.domain.language import detect_language
from shared.domain.rows import Check

SHORTEST_TARGET, LONGEST_TARGET = 45, 150
"""Words of an answer whose length nobody demands."""
LONGEST_ANSWER = 6000
"""Words; a demand for more is not met, so that no request holds up the others for seconds."""
_MISSES = 40
_OPTIONS = 12
_SINGLE_SENTENCE = 24
_LAST_WITH_STATEMENTS = 12
"""Number of the first candidate that leaves out what the answers to an instruction share."""
_FEWEST_SENTENCES = 4
_SHORT_TEXT = 60
"""Words; an answer that may have no more takes up its system message before anything else."""
_LONGEST_SHORT_WORD = 6

UNSPACED_LANGUAGES = frozenset(("zh", "ja", "th"))
"""Words are not counted there, neither here nor by the checks."""
LATIN_LANGUAGES = frozenset(("cs", "da", "de", "es", "fi", "fr", "hu", "it", "nl", "pl", "pt", "ro", "sv", "tr", "vi"))


class _Candidate:
    """One attempt at an answer: its sentences, by a recipe."""

    def __init__(
        self,
        demands: Demands,
        recipe: Recipe,
        language: str,
        instruction: str,
        statements: Sequence[str],
        chance: Chance,
    ) -> None:
        self.statements = statements
        self.demands, self.recipe, self.language, self.chance = demands, recipe, language, chance
        self.allowed = Avoidance(demands.avoid)
        self.draft = Draft(demands, recipe, foreign=language != "en" and language not in LATIN_LANGUAGES)
        topics = [one for one in topics_of(instruction) if self.allowed.allows(one)]
        self.leading = [self._named(one) for one in topics]
        """Topics for the opening, which may be long words."""
        if language != "en":
            # Short words are function words more often than not; in scripts without spaces they are not short words.
            topics = [one for one in topics if len(one) > 4 or not one.isascii()]
        elif recipe.short_words:
            topics = [one for one in topics if len(one) <= _LONGEST_SHORT_WORD]
        self.topics = [self._named(one) for one in topics] if recipe.topics else []
        self.stream: Stream = (
            English(recipe, self.topics, self.allowed, chance)
            if language == "en"
            else Foreign(language, self.topics, instruction, self.allowed, chance)
        )

    def _named(self, topic: str) -> str:
        if self.language in UNSPACED_LANGUAGES:
            return topic
        # Between quotation marks a word needs no article, whose form would depend on the language.
        name = named(topic) if self.language == "en" else f'"{topic}"'
        return name if self.allowed.allows(name) else topic

    def sentences(self, groups: list[list[str]]) -> list[str]:
        """The sentences of the candidate; `groups` are the quotations that it may take up."""
        self._place_wanted()
        if self.recipe.opening and self.language == "en":
            self._open()
        self._state()
        self._fill(self._echoes(groups))
        cap = self.demands.maximum_sentences
        most = None if cap is None else sentences_of_body(self.demands, cap)
        joint = next((mark for mark in ("; ", ", ", " – ") if self.allowed.allows_mark(mark)), " ")
        return [self.allowed.cleaned(one) for one in self.draft.fitted(most, joint)]

    def _place_wanted(self) -> None:
        """A sentence for each demanded phrase that does not stand there already."""
        said = [self.demands.starts_with, self.demands.ends_with]
        left = [phrase for phrase in self.demands.include if not any(contains_phrase(one, phrase) for one in said)]
        for number, phrase in enumerate(left):
            if any(contains_phrase(one.text, phrase) for one in self.draft.placed):
                continue
            room = self.draft.room(len(left) - number)
            self.draft.place(
                sentence_with(
                    phrase,
                    self.language,
                    self.recipe,
                    self.topics,
                    self.stream,
                    partial(self._fits, phrase=phrase, room=room),
                    self.chance,
                )
            )

    def _fits(self, sentence: str, phrase: str, room: float) -> bool:
        return (
            self.draft.count_of(sentence) <= room
            and self.allowed.allows(sentence)
            and contains_phrase(self.allowed.cleaned(sentence), phrase)
        )

    def _open(self) -> None:
        phrases = load_phrases()
        if self.leading:
            stock = phrases.simple_opening if self.recipe.mix[0] == 1 else phrases.opening
            opening = fill(self.chance.choice(stock), self.leading[0], self.leading[1 % len(self.leading)])
            if self.allowed.allows(opening):
                self.draft.open(self.allowed.cleaned(opening))

    def _state(self) -> None:
        """The statements that all answers to the instruction share, where a few sentences more have room."""
        demands = self.demands
        if self.recipe.number >= _LAST_WITH_STATEMENTS or self.language != "en":
            return
        if demands.maximum_sentences is not None and demands.maximum_sentences < _FEWEST_SENTENCES:
            return
        if demands.maximum_words is not None and demands.maximum_words < _SHORT_TEXT:
            return
        for statement in self.statements:
            # Cut in pieces or merged it would state something else.
            if self.draft.count_of(statement) <= self.draft.room() and self.allowed.allows(statement):
                self.draft.take(statement)

    def _echoes(self, groups: list[list[str]]) -> list[str]:
        """One sentence for each group of quotations, as far as the stock has sentences for them."""
        if not self.recipe.echoes:
            return []
        frames = self._frames_of_echoes(len(groups))
        found = []
        for frame, group in zip(frames, groups, strict=False):
            for quotation in group:
                sentence = fill(frame, e=quotation)
                easy = not self.recipe.short_words or all(
                    len(word) <= _LONGEST_SHORT_WORD for word in words_of(quotation)
                )
                if easy and self.draft.count_of(sentence) <= self.draft.room() and self.allowed.allows(sentence):
                    found.append(self.allowed.cleaned(sentence))
                    break
        return found

    def _frames_of_echoes(self, number: int) -> list[str]:
        """Sentences around quotations; in other languages than English those around any phrase, so often as they are needed."""
        if self.language == "en":
            frames = list(load_phrases().echo)
            self.chance.shuffle(frames)
            return frames
        stock = load_wanted().foreign.get(self.language)
        if stock is None:
            return []
        bare = [f"{one.replace('{p}', '{e}')}{stock.stop}" for one in stock.phrases if "{t}" not in one]
        topical = [
            f"{one.replace('{p}', '{e}').replace('{t}', topic)}{stock.stop}"
            for one in stock.phrases
            if "{t}" in one
            for topic in self.topics
        ]
        # On another topic each, as far as there are any.
        return [*topical, *bare * number][:number]

    def _fill(self, echoes: list[str]) -> None:
        draft, demands = self.draft, self.demands
        cap, most = demands.maximum_sentences, demands.maximum_words
        least = None if demands.minimum_words is None else min(demands.minimum_words, LONGEST_ANSWER)
        target = self._target()
        misses = 0
        # Later candidates say more in one sentence.
        free = cap is None or least is not None or self.recipe.number >= 2
        # Echoes come early, so that a short answer still follows its system message; all of them come where nothing bounds
        # the length, so that no wish goes unheard.
        unbounded = cap is None and most is None
        while (
            (draft.count < target or (unbounded and echoes)) and misses < _MISSES and (free or draft.size < (cap or 0))
        ):
            if echoes and (draft.size % 3 or (most is not None and most < _SHORT_TEXT)):
                misses += not draft.take(echoes.pop())
                continue
            following = self._next()
            if following is None:
                break
            misses += not draft.take(following)
        if self.language != "en" and not draft.body and (following := self.stream.next()):
            # What the answer must hold may be in English: a few words at least are not.
            draft.take_part(following)
        fewest = 0 if self._may_be_empty() else 2 if demands.formats & LISTS else 1
        while draft.size < fewest or (least is not None and draft.count < least):
            before = draft.count
            following = self.stream.next() or (self.leading[0] if self.leading else "Yes")
            if not draft.take_part(following) or draft.count == before:
                break
        if not draft.size and fewest:
            draft.body.append("Yes.")

    def _next(self) -> str | None:
        """The next sentence of the stream; where the reading level is bounded from both sides, of several the one that brings
        the text closest to the middle."""
        low, high = self.demands.minimum_grade, self.demands.maximum_grade
        if low is None or high is None or self.language != "en":
            return self.stream.next()
        options = [one for _ in range(_OPTIONS) if (one := self.stream.next())]
        # Apart, so that each is a sentence even without its full stop.
        said = "\n\n".join([self.demands.starts_with, *self.draft.sentences()])
        aim = (low + high) / 2

        def distance(sentence: str) -> float:
            grade = reading_grade(f"{said}\n\n{sentence}\n\n{self.demands.ends_with}")
            return 0 if grade is None else abs(grade - aim)

        return min(options, key=distance, default=None)

    def _may_be_empty(self) -> bool:
        """Whether what the answer must begin and end with, and the layout, can be all there is."""
        demands = self.demands
        edges = bool(demands.starts_with) + bool(demands.ends_with)
        tight = demands.maximum_words is not None and self.draft.room() < 1
        return tight and edges >= 1 and not demands.formats & {"table", "json"}

    def _target(self) -> float:
        """Words to aim at."""
        demands, recipe = self.demands, self.recipe
        most, least, cap = demands.maximum_words, demands.minimum_words, demands.maximum_sentences
        target = self.chance.randint(SHORTEST_TARGET, LONGEST_TARGET) * recipe.scale
        if self.language != "en":
            # One round through the stock: beyond that it would repeat itself.
            target = min(target, 90)
        if cap is not None:
            target = min(target, cap * (8 if recipe.mix[0] == 1 else 14 if recipe.mix[1] else 25))
            if demands.maximum_sentence_words is not None:
                target = min(target, cap * demands.maximum_sentence_words * 0.7)
        if "json" in demands.formats and not self.allowed.allows_mark("."):
            target = min(target, _SINGLE_SENTENCE)
        if least is not None:
            target = max(target, min(least, LONGEST_ANSWER) * 1.05 + 2)
        if most is not None:
            target = min(target, (most + least) / 2 if least is not None else most * (0.92 if most > 20 else 1.0))
        return target


def answer_respond(system: str, instruction: str, seed: int, digest: bytes, altered: str = "") -> str:
    """The answer. Every check found in the system message passes on it (or does not apply), unless none of the candidates
    manages, for demands that contradict each other: then the candidate that fails fewest. `altered` stands in
    the place of the first statement that answers to the instruction share."""
    checks = find_checks(system)
    demands = fold(checks)
    language = demands.language or answer_language(instruction)
    if language in UNSPACED_LANGUAGES:
        demands.minimum_words = demands.maximum_words = demands.maximum_sentence_words = None
    if "json" in demands.formats and not Avoidance(demands.avoid).allows_mark("."):
        # Nothing there ends a sentence but its full stop: the text is one sentence, and its key a word of it.
        bounds = [one for one in (demands.maximum_words, demands.maximum_sentence_words) if one is not None]
        demands.maximum_words = min(bounds, default=None)
    chance = generator_of(seed, digest, "respond")
    wishes = system
    for check in checks:
        wishes = wishes.replace(canonical_sentence(check), " ")
    groups = echo_groups(wishes, instruction, chance)
    facts = facts_of(instruction)
    statements = [altered if altered and fact is facts[0] else fact.text for fact in facts]
    best, fewest = "", len(checks) + 2
    for recipe in recipes(demands, chance):
        body = _Candidate(demands, recipe, language, instruction, statements, chance).sentences(groups)
        text = render(body, demands, language, recipe.number, chance)
        failed = _failures(text, checks, language)
        if failed < fewest:
            best, fewest = text, failed
        if failed == 0:
            break
    return best


def _failures(text: str, checks: list[Check], language: str) -> int:
    failed = sum(1 for check in checks if evaluate(check, text).outcome == "fail")
    if language != "en" and not any(check.kind == "language" for check in checks):
        found = detect_language(text)
        failed += 1 if found is not None and found[0] != language else 0
    return failed


def answer_off_language(instruction: str, seed: int, digest: bytes) -> str:
    """A text in a language that is neither the instruction's nor English."""
    chance = generator_of(seed, digest, "off_language")
    banks = load_phrases().languages
    asked = answer_language(instruction)
    language = chance.choice([code for code in ("de", "fr", "es", "it", "pt", "nl") if code != asked])
    sentences = [sentence for sentence in banks[language] if "{t}" not in sentence]
    return " ".join(chance.sample(sentences, min(6, len(sentences))))
