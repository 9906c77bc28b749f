"""Made-up English instructions, as many different ones as wanted: the same seed gives the same ones.

They say nothing that anybody would ask. What matters is that curation keeps them: each is English by its frame, and shares
hardly a run of three words with another, because its words are drawn.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import orjson

_FRAMES = (
    "Explain to me how the {0} of a {1} could change when the {2} is {3}, and what a {4} would have to do about the {5}.",
    "I have a {0} that belongs to a {1}. Please write what I should tell the {3} {2}, and why the {4} matters for a {5}.",
    "What is the difference between a {0} with a {3} {1} and a {2} without one? Give an example with a {4} and a {5}.",
    "Help me to plan a week in which a {0} meets a {1}, so that the {2} stays {3} and nobody forgets the {4} or the {5}.",
    "Write a short text for a {0} about the {3} {1} that was found near the {2}, and mention both the {4} and the {5}.",
    "My {0} asked whether the {1} or the {2} is more {3}. How would you compare them, given a {4} and only one {5}?",
    "Give me reasons why a {3} {0} should be kept away from a {1}, and tell me what the {2} has to do with the {4} and the {5}.",
    "Could you list what is needed to turn a {0} into a {1}? The {2} is {3} already, but there is neither a {4} nor a {5}.",
)
_STARTS = (
    "b",
    "br",
    "c",
    "cl",
    "d",
    "dr",
    "f",
    "g",
    "gr",
    "h",
    "k",
    "l",
    "m",
    "n",
    "p",
    "pl",
    "r",
    "s",
    "st",
    "t",
    "tr",
    "v",
    "w",
)
_MIDDLES = ("a", "e", "i", "o", "u", "ea", "oo", "ai", "ou")
_ENDS = (
    "bble",
    "ck",
    "dge",
    "ffin",
    "ggle",
    "lder",
    "llow",
    "mber",
    "nder",
    "nnet",
    "pper",
    "rden",
    "rrow",
    "sket",
    "ttle",
    "zzle",
)
_WORDS = tuple(start + middle + end for start in _STARTS for middle in _MIDDLES for end in _ENDS)
_QUALITIES = (
    "quiet",
    "narrow",
    "heavy",
    "ancient",
    "bright",
    "hollow",
    "gentle",
    "broken",
    "careful",
    "distant",
    "empty",
    "rapid",
)


def instructions(count: int, seed: int) -> Iterator[str]:
    """So many different texts."""
    drawn = random.Random(f"instructions {seed}")
    seen: set[str] = set()
    while len(seen) < count:
        words = drawn.sample(_WORDS, 6)
        words[3] = drawn.choice(_QUALITIES)
        text = drawn.choice(_FRAMES).format(*words)
        if text not in seen:
            seen.add(text)
            yield text


def write_instructions(path: Path, count: int, seed: int) -> None:
    """A JSONL file with `instruction` in each line."""
    with path.open("wb") as file:
        for text in instructions(count, seed):
            file.write(orjson.dumps({"instruction": text}, option=orjson.OPT_APPEND_NEWLINE))
