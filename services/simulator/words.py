"""What an instruction or a preference is about: its content words, found by rule."""

import re
from functools import lru_cache

from shared.domain.checks.answer_language import LANGUAGE_NAMES

_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|['’-](?=[^\W\d_]))*")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")
"""Scripts that write no spaces between words (and Hangul, whose particles stick to them)."""

_FUNCTION_WORDS = """
a about above across after again against all almost along already also although always am among an and another any
anyone anything are around as ask at away back be because become been before being below between both but by call came
can cannot come could did do does doing done down during each either else enough even ever every everyone everything
except few find first for from further gave get give given gives go goes going got had has have having he help her
here hers herself him himself his how however i if in inside instead into is it its itself just keep kept know last
least less let like likely made make makes making many may me mean might mine more most mostly much must my myself
near need needs neither never next no nobody none nor not nothing now of off often on once one only onto or other
others our ours out over own part per perhaps please put quite rather really said same say says second see seem seems
seen several shall she should show since so some someone something sometimes soon still such take taken tell than that
the their theirs them themselves then there these they thing things this those though through throughout to together
too toward towards two under until up upon us use used uses using very via want wants was way ways we well went were
what whatever when where whether which while who whole whom whose why will with within without would yes yet you your
yours yourself yourselves able answer answers asked asks assume based brief briefly case certain choose compare
consider create define describe describes design detail details different discuss draft each effect example examples
explain explains following generate good great identify imagine include includes including input instruction kind
large likes loves wishes enjoys list little long main mention name new number output outline paragraph people plan
person point points possible prefer prefers provide question reader readers respond response rewrite sentence
sentences short simple small sort specific step steps suggest summarize summary talk task text think three topic
translate type types understand word words work write writes writing written don't doesn't didn't isn't aren't wasn't
can't couldn't won't wouldn't i'm i've i'd i'll it's that's there's they're we're what's you're you've let's
"""
_NO_NOUNS = """
actually add added affect allow analyse analyze answering appear apply asks attend attract average avoid basic
beautiful became become began begin behave belong beside best better big bit bought brand bring brought built busy buy
calculate called came careful carry cause caused celebrate central check choosing classify clean clear close closely
closest cold com come common comparing compose contain contains convert convince cook correct cover cultural daily
decide decrease deep demonstrate develop die differ different dirty disagree discussing divided dry early easy eat
eight elaborate eleven employ enable encourage engage engaging enter equal estimate evaluating every exact extra
extract fair far fast faster feel fewer fill finds first-hand first-time five fix follow found four free full
full-time fun funny gave generate gives global good got grew grow happen happening happens happy hard healthy hear heavy
held hello helpful hey hi high higher highest hold horizontal hot http https implement important improve include
increase inform informing infringe interested inviting keep kept key knew knows larger largest late latest learn
learned leave left lie light listening live living local long long-term longer longest look looking loses lost lot low
lower lowest made main manage matter maybe means mental met move nearest necessary newest nice nine nobody notify
obtaining occurs officially okay old oldest open org overall paid pay personal persuade planning play pleasant popular
possibly potential prevent primary print private proper provide public quick raise ran read ready real recent
recommend red reduce regular relate relevant remain remember remove removing required rich right run runs safe said
save saw send sent serious serve set settle seven short-term shorter shortest show shuts single six slow smallest
social sold solve somebody somehow someone sorry sorted speak special specific spend spent stand stands start starting
stay strong study suggesting summarise sure takes tasty taught tell tells ten term thanks thinks thought three tiny
today told tomorrow tonight took top total traditional travel tried try trying turn twelve twenty twice two typical
unhappy useful usual vertical visit voted wait walk warm weak wear wears went whole wide won works wrong wrote www
yeah yesterday young
"""
NO_NOUNS = frozenset(_NO_NOUNS.split())
"""Common adjectives, numbers and verb forms of instructions: what a sentence can hardly be about."""
_ENDINGS = """
able ably ally dly ely ibly kly rly sly tly ible ically ious ously ful fully less ive ical ular atic omic etic itic ing
"""
_ENDINGS_OF_OTHERS = tuple(_ENDINGS.split())
_THINGS_IN_ING = """
advertising banking booking building camping ceiling clothing coding cooking drawing dressing ending engineering evening
fishing gardening greeting heating hiking housing learning lighting listing marketing meeting morning nursing painting
parenting programming pudding rating reading recording setting shopping sibling spelling spring string swimming training
warming wedding writing
"""
_NOUNS = frozenset(_THINGS_IN_ING.split())
_VERB_PLACES = (
    re.compile(
        r"\b(?:to|can|could|will|would|should|must|may|might|do|does|did|not|I|you|we|they|people)\s+([a-z]+)\b"
    ),
    re.compile(r"\b(?:it|that|which|who|he|she)\s+([a-z]+s)\b"),
    re.compile(r"(?<!the )(?<!a )(?<!an )\b([A-Za-z]+)\s+(?:the|a|an|your|my|our|their|this|these)\s"),
)
"""Where a word of an English instruction is a verb: after what asks for one, and before an object."""
_POSSESSIVE = re.compile(r"(?<=[a-z])['’]s\b")
_ENOUGH_NOUNS = 2
_NAMES = frozenset(LANGUAGE_NAMES.values())
_PRONOUNS = ("I'", "I’")
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""English words that say nothing about a topic; the later ones are those common in instructions and preferences."""


def words_of(text: str) -> list[str]:
    """All words, lower-cased, in order."""
    return [match.lower() for match in _WORD.findall(text)]


def lower_opening(text: str) -> str:
    """The text as it reads in the middle of a sentence: without the capital of its first word, unless that word is a form
    of the pronoun I, an acronym, or the name of a language."""
    first = text.split(maxsplit=1)[0] if text.strip() else ""
    keeps = first.startswith(_PRONOUNS) or first.rstrip(",.:;") in _NAMES
    opens = first[:1].isupper() and (first == "A" or (len(first) > 1 and first[1:].islower()))
    return text[0].lower() + text[1:] if opens and not keeps else text


def content_words(text: str) -> list[str]:
    """Distinct words of three letters or more that are no function words, lower-cased, in order of appearance."""
    return list(dict.fromkeys(word for word in words_of(text) if len(word) > 2 and word not in FUNCTION_WORDS))


def _is_no_noun(word: str) -> bool:
    """Whether an English word is likely an adjective, adverb or verb form: no sentence can be about it."""
    if word.endswith("ed"):
        return word in NO_NOUNS or (len(word) > 4 and not word.endswith("eed"))
    return word in NO_NOUNS or (len(word) > 5 and word.endswith(_ENDINGS_OF_OTHERS) and word not in _NOUNS)


def named(topic: str) -> str:
    """The topic as it stands in an English sentence: a common noun with its article, a name as it is."""
    common = topic.islower() and not (topic.endswith("ing") and topic not in _NOUNS)
    return f"the {topic}" if common else topic


@lru_cache(maxsize=4096)
def topics_of(text: str, most: int = 6) -> tuple[str, ...]:
    """At most so many words (or, in unspaced scripts, short runs of signs) that say what the text is about.

    Words that look like nouns lead (two of them are enough), among them those that come more than once, then those of five
    letters or more; among equals the order stays. A word and its plural count once. Never empty: a text of nothing but
    function words gives those, and a text without words gives ("this",).
    """
    if _UNSPACED.search(text):
        runs = [run[:6] for run in re.split(r"[\W\d_]+", text) if run]
        return tuple(dict.fromkeys(runs))[:most] or ("this",)
    counts: dict[str, int] = {}
    spelled: dict[str, str] = {}
    for word in _WORD.findall(_POSSESSIVE.sub("", text[:6000])):
        lowered = word.lower()
        if len(lowered) > 2 and lowered not in FUNCTION_WORDS:
            counts[lowered] = counts.get(lowered, 0) + 1
            # A name keeps its capitals, a word that merely opens a sentence loses them.
            spelled[lowered] = word if spelled.get(lowered, word) == word else lowered
    if not counts:
        return tuple(dict.fromkeys(words_of(text)))[:most] or ("this",)
    # Longer words say more, in every language with spaces.
    ranked = sorted(counts, key=lambda word: (-min(counts[word], 3), len(word) < 5))
    ranked = [word for word in ranked if not (word.endswith("s") and word[:-1] in counts)]
    verbs = {match[1].lower() for pattern in _VERB_PLACES for match in pattern.finditer(text[:6000])}
    nouns = [word for word in ranked if word not in verbs and not _is_no_noun(word)]
    ranked = nouns if len(nouns) >= _ENOUGH_NOUNS else [*nouns, *(word for word in ranked if word not in nouns)]
    first = text.lstrip()[:1]
    result = []
    for word in ranked[:most]:
        form = spelled[word]
        opens = text.lstrip().startswith(form) and form[:1] == first
        result.append(word if opens and not form.isupper() else form)
    return tuple(result)
