"""Labels of preferences: one entry per dimension, at the level that it names, under the dimension that it speaks of."""

import re
from collections import Counter
from functools import cache

from shared.audit.data import AuditData, AuditRow, Entry
from shared.audit.findings import Finding, Threshold, not_applicable, share_finding
from shared.audit.words import words
from shared.domain.similarity import word_tokens
from shared.domain.taxonomy import default_taxonomy

SPLIT = Threshold(warn=0.01, bad=0.05)
LEVEL = Threshold(warn=0.01, bad=0.05)
FOREIGN = Threshold(warn=0.05, bad=0.15)
CAUTION = Threshold(warn=0.2, bad=0.08, worse="below")
CAUTION_BY_WORDS = Threshold(warn=0.2, bad=None, worse="below")
"""The rules find few of the ways to ask for less caution (docs/audit.md), so what they miss must not count as a defect."""

OWNED_SHARE = 0.8
"""Of a subdimension's uses, in one dimension, from which the name counts as that dimension's own."""
FEWEST_USES = 5
STEM_CHARACTERS = 5
_FRAGMENT = re.compile(r"^\s*(?:and|or|but|with|e\.g|etc)\b|\b(?:and|or|such as|with)\s*$", re.IGNORECASE)


def measure(data: AuditData) -> list[Finding]:
    """Shares of: sets with two entries of a subdimension or of one description, or with fragments (keywords split at commas);
    entries that name a level and stand under another; entries whose keywords name a subdimension of another dimension only;
    harmlessness entries that ask for less caution."""
    titles = {
        "split_keywords": "Sets with split keywords",
        "wrong_level": "Entries under a level that they do not name",
        "foreign_style": "Entries that speak of another dimension",
        "less_caution": "Harmlessness that asks for less caution",
    }
    rows = [row for row in data.rows if row.entries]
    if not rows:
        return [not_applicable(name, title, "this layout has no preference sets") for name, title in titles.items()]
    return [
        _split(rows, titles["split_keywords"]),
        _levels(rows, titles["wrong_level"]),
        _foreign(rows, titles["foreign_style"]),
        _caution(rows, titles["less_caution"]),
    ]


def _split(rows: list[AuditRow], title: str) -> Finding:
    observed, examples = [], []
    for row in rows:
        entries = row.entries or ()
        # Several preferences of one dimension are a choice; of one subdimension, or with one description, they were one.
        places = Counter((entry.dimension, entry.subdimension) for entry in entries)
        descriptions = Counter(entry.description for entry in entries if entry.description)
        fragments = [entry.preference for entry in entries if _FRAGMENT.search(entry.preference)]
        repeated = max(places.values(), default=0) > 1 or max(descriptions.values(), default=0) > 1
        bad = repeated or bool(fragments)
        observed.append((row.cluster, bad))
        if bad:
            examples.append(" | ".join(f"{entry.dimension}: {entry.preference}" for entry in entries))
    return share_finding("split_keywords", title, observed, "preference sets", SPLIT, examples=examples)


def _levels(rows: list[AuditRow], title: str) -> Finding:
    levels = words().levels
    observed, examples = [], []
    for row in rows:
        for entry in row.entries or ():
            stated = {levels[word] for word in _singular(f"{entry.subdimension} {entry.pole or ''}") if word in levels}
            if not stated:
                continue
            named = {levels[word] for word in _singular(entry.preference) if word in levels}
            bad = bool(named) and not named & stated
            observed.append((row.cluster, bad))
            if bad:
                examples.append(f"{entry.preference} — under {entry.subdimension} {entry.pole or ''}")
    if not observed:
        return not_applicable("wrong_level", title, "no subdimension or pole names a level of knowledge")
    return share_finding("wrong_level", title, observed, "entries under a level", LEVEL, examples=examples)


def _foreign(rows: list[AuditRow], title: str) -> Finding:
    owners = _owners(rows)
    observed, examples = [], []
    for row in rows:
        for entry in row.entries or ():
            spoken = {owners[stem] for stem in map(_stem, word_tokens(entry.preference)) if stem in owners}
            misplaced = owners.get(_stem(entry.subdimension), entry.dimension) != entry.dimension
            bad = misplaced or (bool(spoken) and entry.dimension not in spoken)
            observed.append((row.cluster, bad))
            if bad:
                examples.append(f"{entry.preference} — under {entry.dimension} / {entry.subdimension}")
    note = f"by the stems of {len(owners):,} subdimension names that belong to one dimension"
    return share_finding("foreign_style", title, observed, "entries", FOREIGN, note=note, examples=examples)


def _owners(rows: list[AuditRow]) -> dict[str, str]:
    """Stem of a subdimension's name -> the dimension that it belongs to; only one-word names, and clear ones."""
    uses: dict[str, Counter[str]] = {}
    for row in rows:
        for entry in row.entries or ():
            if _one_word(entry):
                uses.setdefault(_stem(entry.subdimension), Counter())[entry.dimension] += 1
    owners = {}
    for stem, counts in uses.items():
        dimension, count = counts.most_common(1)[0]
        if counts.total() >= FEWEST_USES and count >= OWNED_SHARE * counts.total():
            owners[stem] = dimension
    return owners


def _caution(rows: list[AuditRow], title: str) -> Finding:
    entries = [
        (row.cluster, entry) for row in rows for entry in row.entries or () if entry.dimension.lower() == "harmlessness"
    ]
    if not entries:
        return not_applicable("less_caution", title, "no dimension is called harmlessness")
    stances = [stance_of(entry) for _, entry in entries]
    known = [(cluster, entry, stance) for (cluster, entry), stance in zip(entries, stances, strict=True) if stance]
    if 2 * len(known) >= len(entries):
        found = [(cluster, entry, stance == "frank") for cluster, entry, stance in known]
        limits, note = CAUTION, f"by the stance of the pole, known of {len(known):,} of {len(entries):,} entries"
    else:
        found = [(cluster, entry, asks_less_caution(entry)) for cluster, entry in entries]
        limits, note = CAUTION_BY_WORDS, "by word rules, English only, that miss most other wordings: at most doubtful"
    observed = [(cluster, less) for cluster, _, less in found]
    examples = [entry.description for _, entry, less in found if less]
    return share_finding("less_caution", title, observed, "entries", limits, note=note, examples=examples)


def asks_less_caution(entry: Entry) -> bool:
    """Whether the word rules find that an entry asks for less caution."""
    text = f"{entry.pole or ''}. {entry.preference}. {entry.description}"
    return bool(words().less_caution.search(words().not_less_caution.sub(" ", text)))


def stance_of(entry: Entry) -> str | None:
    """`careful` or `frank` where the bundled taxonomy knows the entry's pole, else None."""
    return _stances().get((entry.dimension, entry.subdimension, entry.pole or ""))


@cache
def _stances() -> dict[tuple[str, str, str], str]:
    return {
        (dimension.name, subdimension.name, pole.name): pole.stance
        for dimension in default_taxonomy().dimensions
        for subdimension in dimension.subdimensions
        for pole in subdimension.poles
        if pole.stance is not None
    }


def _one_word(entry: Entry) -> bool:
    return len(word_tokens(entry.subdimension)) == 1


def _stem(word: str) -> str:
    """The beginning of a word, enough to join `creative` and `creativity`."""
    return word.lower()[:STEM_CHARACTERS]


def _singular(text: str) -> set[str]:
    return {word.removesuffix("s") for word in word_tokens(text)}
