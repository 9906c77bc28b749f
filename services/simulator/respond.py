"""Answers of class `respond`: a text that depends on instruction and system message and satisfies its machine checks.

The checks that stand in the system message set bounds (`demands`); a candidate text is made within them and every check is
then evaluated on it. Candidates that drop more and more of what nobody demanded follow until one passes.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

import msgspec

from services.simulator.chance import Chance, generator_of
from services.simulator.demands import Demands, fold
from services.simulator.layout import extra_words, render, sentences_of_body
from services.simulator.phrases import Phrases, fill, load_phrases
from services.simulator.words import content_words, topics_of, words_of
from shared.domain.checks import canonical_sentence, evaluate, find_checks
from shared.domain.language import detect_language
from shared.domain.prose import words
from shared.domain.rows import Check

CANDIDATES = 40
CONFIDENT = 0.6
SHORTEST_TARGET, LONGEST_TARGET = 45, 150
"""Words of an answer whose length nobody demands."""

CLOSING = ".!?。！？"
UNSPACED_LANGUAGES = frozenset(("zh", "ja", "th"))
"""Words are not counted there, neither here nor by the checks."""
LONGEST_ANSWER = 6000
"""Words; a demand for more is not met, so that no request holds up the others for seconds."""

LATIN_LANGUAGES = frozenset(("cs", "da", "de", "es", "fi", "fr", "hu", "it", "nl", "pl", "pt", "ro", "sv", "tr", "vi"))
_ENGLISH_MARKS = frozenset(
    ("the", "to", "and", "what", "how", "that", "you", "with", "for", "are", "does", "from", "this")
)
"""Words that are English and, two together, no other language in ASCII."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


class Recipe(msgspec.Struct, frozen=True):
    """How one candidate is made. `mix` are the shares of simple, plain and elaborate sentences, `number` counts candidates."""

    mix: tuple[float, float, float]
    echoes: bool
    opening: bool
    short_words: bool
    topics: bool
    scale: float
    number: int


@lru_cache(maxsize=1)
def _common_system_words() -> frozenset[str]:
    """Words that the simulator's own system messages are made of: no sign of a preference."""
    phrases = load_phrases()
    stock = (
        *(text for voice in phrases.compose_voices for text in (*voice.fillers, *voice.openings, *voice.closings)),
        *phrases.compose_links,
        *phrases.compose_labels,
        *phrases.augment_leads,
        *phrases.augment_tails,
        *phrases.compose_roles,
    )
    return frozenset(word for text in stock for word in words_of(text))


def answer_language(instruction: str) -> str:
    """ISO 639-1 code of the language to answer in: the instruction's where it is plain, else English."""
    if instruction.isascii() and len(_ENGLISH_MARKS.intersection(words_of(instruction[:400]))) >= 2:
        return "en"
    found = detect_language(instruction)
    return found[0] if found is not None and found[1] >= CONFIDENT else "en"


def echo_groups(system: str, instruction: str, chance: Chance) -> list[list[str]]:
    """Content words of the system message, up to three from each of its sentences; none of the instruction's."""
    ignored = _common_system_words() | set(content_words(instruction))
    groups = []
    for sentence in _SENTENCE_END.split(system):
        found = [word for word in content_words(sentence) if word not in ignored and word.isascii() and len(word) > 4]
        if found:
            groups.append(chance.sample(found, min(3, len(found))))
    chance.shuffle(groups)
    return groups


def _joined(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


@lru_cache(maxsize=1024)
def _avoided_pattern(entries: tuple[str, ...]) -> re.Pattern[str] | None:
    """Finds any of the phrases as whole words, in case-folded text; None without phrases."""
    if not entries:
        return None
    alternatives = "|".join(re.escape(entry) for entry in sorted(entries, key=len, reverse=True))
    return re.compile(rf"(?<![^\W_])(?:{alternatives})(?![^\W_])")


class _Filter:
    """Keeps texts without the avoided words; avoided marks are taken out of a text instead."""

    def __init__(self, avoid: tuple[str, ...]) -> None:
        entries = [entry.casefold() for entry in avoid]
        self._marks = [entry for entry in entries if not any(sign.isalnum() for sign in entry)]
        self._pattern = _avoided_pattern(tuple(entry for entry in entries if entry not in self._marks))

    def cleaned(self, text: str) -> str:
        for mark in self._marks:
            text = text.replace(mark, "")
        return text

    def __call__(self, text: str) -> bool:
        return self._pattern is None or self._pattern.search(text.casefold()) is None


def _sentences(
    recipe: Recipe,
    language: str,
    topics: tuple[str, ...],
    instruction: str,
    allowed: _Filter,
    chance: Chance,
) -> Iterator[str]:
    """Sentences without end (nothing where every sentence would hold an avoided word)."""
    phrases = load_phrases()
    usable = [topic for topic in topics if allowed(topic) and (not recipe.short_words or len(topic) <= 6)]
    if language != "en":
        # Short words are function words more often than not; in scripts without spaces they are not short words.
        telling = [topic for topic in usable if len(topic) > 4 or not topic.isascii()]
        yield from _foreign(phrases, language, telling if recipe.topics else [], instruction, allowed, chance)
        return
    levels = (phrases.simple, phrases.plain, phrases.elaborate)
    links = phrases.simple_connectives if recipe.mix[0] == 1 else phrases.connectives
    pools: list[list[str]] = [[], [], []]
    rounds = [0, 0, 0]
    failures = 0
    while failures < 200:
        drawn = chance.random()
        level = 0 if drawn < recipe.mix[0] else 1 if drawn < recipe.mix[0] + recipe.mix[1] else 2
        if not pools[level]:
            pools[level] = list(levels[level])
            rounds[level] += 1
        template = chance.draw(pools[level])
        if ("{t}" in template or "{u}" in template) and (not usable or not recipe.topics):
            failures += 1
            continue
        topic = chance.choice(usable) if usable else ""
        other = chance.choice([one for one in usable if one != topic] or [topic])
        if "{t}" in template and "{u}" in template and topic == other:
            failures += 1
            continue
        sentence = fill(template, topic, other)
        if rounds[level] > 1 or ("," not in sentence and chance.random() < 0.12):
            sentence = f"{chance.choice(links)}, {sentence[0].lower()}{sentence[1:]}"
        sentence = sentence[0].upper() + sentence[1:]
        if not allowed(sentence):
            failures += 1
            continue
        failures = 0
        yield allowed.cleaned(sentence)


def _foreign(
    phrases: Phrases, language: str, topics: list[str], instruction: str, allowed: _Filter, chance: Chance
) -> Iterator[str]:
    bank = phrases.languages.get(language) or _echoed_chunks(instruction)
    found = True
    while found:
        pool = list(bank)
        chance.shuffle(pool)
        found = False
        for template in pool:
            if "{t}" in template and not topics:
                continue
            sentence = fill(template, chance.choice(topics) if topics else "")
            if allowed(sentence):
                found = True
                yield allowed.cleaned(sentence)


def _echoed_chunks(instruction: str) -> tuple[str, ...]:
    """The instruction's own words in small pieces, for a language without a stock of sentences."""
    found = re.sub(r"[.!?;:()\[\]{}\"“”«»]", " ", instruction).split()
    chunks = [" ".join(found[start : start + 6]) for start in range(0, min(len(found), 240), 6)]
    return tuple(f"{chunk[0].upper()}{chunk[1:]}." for chunk in chunks if chunk) or ("…",)


def _merge(sentences: list[str], most: int, avoid: tuple[str, ...]) -> list[str]:
    """At most so many sentences: neighbours are joined by semicolons, or by commas where those are to be avoided."""
    joint = next((mark for mark in ("; ", ", ", " – ") if not any(entry in mark for entry in avoid)), " ")
    if len(sentences) <= most:
        return sentences
    per_group = -(-len(sentences) // most)
    merged = []
    for start in range(0, len(sentences), per_group):
        group = sentences[start : start + per_group]
        clauses = [group[0].rstrip(CLOSING), *(f"{one[0].lower()}{one[1:]}".rstrip(CLOSING) for one in group[1:])]
        merged.append(joint.join(clauses) + ".")
    return merged


def _word_count(text: str) -> int:
    """Words, roughly; in scripts without spaces, signs by two."""
    if text.isascii():
        return len(text.split())
    return max(len(text.split()), sum("\u0e00" <= sign <= "\u9fff" for sign in text) // 2)


def _exact_word_count(text: str) -> int:
    """Words as the checks count them."""
    return len(words(text))


def _included(phrase: str) -> str:
    """A sentence that holds a demanded phrase: quoted where its own closing mark would end the sentence."""
    return f'"{phrase}".' if phrase[-1] in ".!?…" else f"{phrase[:1].upper()}{phrase[1:]}."


def _fitting_pieces(sentence: str, most: int) -> list[str]:
    """The sentence as pieces of at most so many words."""
    found = sentence.rstrip(".!?").split()
    pieces = [" ".join(found[start : start + most]) for start in range(0, len(found), most)]
    return [f"{piece[0].upper()}{piece[1:].rstrip(',;:')}." for piece in pieces]


class _Text:
    """The sentences of a candidate as they are gathered, within the bounds on length."""

    def __init__(self, demands: Demands, recipe: Recipe, *, foreign: bool) -> None:
        self.sentences: list[str] = []
        self.demands = demands
        self.count_of = _exact_word_count if demands.about_length and not foreign else _word_count
        once, self.each = extra_words(demands)
        self.count = once + self.count_of(f"{demands.starts_with} {demands.ends_with}".strip() or "")
        self.longest = demands.maximum_sentence_words
        if self.longest is not None and "json" in demands.formats:
            self.longest = max(1, self.longest - 1)
        self.cuts = recipe.number >= 3

    def take(self, sentence: str, *, needed: bool = False) -> bool:
        """Whether the sentence fits and was taken. A needed one is taken however long the text becomes."""
        size = self.count_of(sentence)
        pieces = [sentence]
        if self.longest is not None and size > self.longest and not needed:
            if not self.cuts:
                return False
            pieces = _fitting_pieces(sentence, self.longest)
        most = self.demands.maximum_words
        size += self.each * len(pieces)
        if most is not None and self.count + size > most and not needed:
            return False
        self.sentences.extend(pieces)
        self.count += size
        return True

    def take_part(self, sentence: str) -> bool:
        """Take as many words of the sentence as there is room for."""
        most = self.demands.maximum_words
        room = 10_000 if most is None else most - self.count - self.each
        if self.longest is not None:
            room = min(room, self.longest)
        if room < 1:
            return False
        return self.take(" ".join(sentence.rstrip(".!?").split()[:room]).rstrip(",;:") + ".", needed=True)


def _target(demands: Demands, recipe: Recipe, language: str, chance: Chance) -> float:
    """Words to aim at."""
    most, least, cap = demands.maximum_words, demands.minimum_words, demands.maximum_sentences
    target = chance.randint(SHORTEST_TARGET, LONGEST_TARGET) * recipe.scale
    if language != "en":
        # One round through the stock: beyond that it would repeat itself.
        target = min(target, 90)
    if cap is not None:
        target = min(target, cap * (8 if recipe.mix[0] == 1 else 14 if recipe.mix[1] else 25))
        if demands.maximum_sentence_words is not None:
            target = min(target, cap * demands.maximum_sentence_words * 0.7)
    if least is not None:
        target = max(target, min(least, LONGEST_ANSWER) * 1.05 + 2)
    if most is not None:
        target = min(target, (most + least) / 2 if least is not None else most * (0.92 if most > 20 else 1.0))
    return target


def _body(
    demands: Demands,
    recipe: Recipe,
    language: str,
    topics: tuple[str, ...],
    instruction: str,
    groups: list[list[str]],
    chance: Chance,
) -> list[str]:
    """The sentences of one candidate."""
    phrases = load_phrases()
    allowed = _Filter(demands.avoid)
    text = _Text(demands, recipe, foreign=language != "en" and language not in LATIN_LANGUAGES)
    target = _target(demands, recipe, language, chance)
    cap, most = demands.maximum_sentences, demands.maximum_words
    least = None if demands.minimum_words is None else min(demands.minimum_words, LONGEST_ANSWER)
    for phrase in demands.include:
        text.take(_included(phrase), needed=True)
    if recipe.opening and language == "en":
        stock = phrases.simple_opening if recipe.mix[0] == 1 else phrases.opening
        usable = [topic for topic in topics if allowed(topic)]
        if usable:
            opening = fill(chance.choice(stock), usable[0], usable[1 % len(usable)])
            if allowed(opening) and text.take(allowed.cleaned(opening)):
                text.sentences.insert(0, text.sentences.pop())
    echoes: list[str] = []
    if recipe.echoes and language == "en":
        frames = list(phrases.echo)
        chance.shuffle(frames)
        for frame, group in zip(frames, groups, strict=False):
            usable = [word for word in group if allowed(word) and (not recipe.short_words or len(word) <= 6)]
            if usable and allowed(sentence := fill(frame, e=_joined(usable))):
                echoes.append(allowed.cleaned(sentence))
    stream = _sentences(recipe, language, topics, instruction, allowed, chance)
    misses = 0
    # Later candidates say more in one sentence.
    room = cap is None or least is not None or recipe.number >= 2
    # Echoes come early, so that a short answer still follows its system message.
    while text.count < target and misses < 40 and (room or len(text.sentences) < (cap or 0)):
        if echoes and (len(text.sentences) % 2 == 1 or (most is not None and most < 60)):
            misses += not text.take(echoes.pop())
            continue
        following = next(stream, None)
        if following is None:
            break
        misses += not text.take(following)
    while not text.sentences or (least is not None and text.count < least):
        before = text.count
        following = next(stream, None) or (topics[0] if allowed(topics[0]) else "Yes")
        if not text.take_part(following) or text.count == before:
            break
    result = text.sentences or ["Yes."]
    if cap is not None:
        result = _merge(result, sentences_of_body(demands, cap), demands.avoid)
    return result


def _mixes(demands: Demands) -> list[tuple[float, float, float]]:
    high, low = demands.maximum_grade, demands.minimum_grade
    if low is not None and high is not None:
        return [
            (0, 1, 0),
            (0, 0.7, 0.3),
            (0.4, 0.6, 0),
            (0, 0.4, 0.6),
            (0.3, 0.4, 0.3),
            (0.75, 0.25, 0),
            (0, 0.15, 0.85),
            (0, 0.85, 0.15),
            (1, 0, 0),
            (0, 0, 1),
        ]
    if low is not None:
        return [(0, 0, 1)] if low > 8 else [(0, 0.4, 0.6), (0, 0, 1)]
    if high is not None:
        return [(1, 0, 0)] if high < 11 else [(0.4, 0.6, 0), (1, 0, 0)]
    if demands.maximum_sentence_words is not None:
        return [(1, 0, 0)] if demands.maximum_sentence_words < 12 else [(0.6, 0.4, 0), (1, 0, 0)]
    return [(0.15, 0.75, 0.1), (0.5, 0.5, 0), (0, 0.6, 0.4), (1, 0, 0)]


def _recipes(demands: Demands, chance: Chance) -> Iterator[Recipe]:
    """First what a reader would like best, then with less and less that nobody demanded."""
    mixes = _mixes(demands)
    bounded = demands.maximum_grade is not None or demands.minimum_grade is not None
    first = 0 if bounded else chance.randrange(min(3, len(mixes)))
    for number in range(CANDIDATES):
        yield Recipe(
            mix=mixes[(first + number) % len(mixes)],
            echoes=number % 4 < 2 and number < 16,
            opening=number % 4 != 3 and number < 20,
            short_words=demands.maximum_grade is not None and number > 0,
            topics=number % 6 != 5,
            scale=(1.0, 0.8, 1.3, 0.6, 1.6)[number % 5],
            number=number,
        )


def answer_respond(system: str, instruction: str, seed: int, digest: bytes) -> str:
    """The answer. Every check found in the system message passes on it (or does not apply), unless none of the candidates
    manages, for demands that contradict each other: then the candidate that fails fewest."""
    checks = find_checks(system)
    demands = fold(checks)
    language = demands.language or answer_language(instruction)
    if language in UNSPACED_LANGUAGES:
        demands.minimum_words = demands.maximum_words = demands.maximum_sentence_words = None
    chance = generator_of(seed, digest, "respond")
    topics = topics_of(instruction)
    wishes = system
    for check in checks:
        wishes = wishes.replace(canonical_sentence(check), " ")
    groups = echo_groups(wishes, instruction, chance)
    best, fewest = "", len(checks) + 2
    for recipe in _recipes(demands, chance):
        body = _body(demands, recipe, language, topics, instruction, groups, chance)
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
