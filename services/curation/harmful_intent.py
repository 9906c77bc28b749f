"""Instructions whose evident intent is harm. The rules are data (`harmful_intent.yaml`).

Such instructions stay in the collection, because a model has to learn a safe and still personal answer to them; curation
only tags them. What counts, and how well the rules find it on labelled real instructions, is in docs/harmful-intent.md.
"""

from functools import lru_cache
from importlib.resources import files

import yaml

from services.curation.text_rules import RuleFilter

REASONS = (
    "crime",
    "disinformation",
    "drugs",
    "evasion",
    "fraud",
    "hacking",
    "harassment",
    "hate",
    "malware",
    "minors",
    "privacy",
    "self_harm",
    "sexual",
    "theft",
    "violence",
    "weapons",
)


class HarmfulIntentFilter(RuleFilter):
    """The rules of a file in the form of `harmful_intent.yaml`."""

    def __init__(self, data: object) -> None:
        """Raises what RuleFilter raises."""
        super().__init__(data, REASONS)


@lru_cache(maxsize=1)
def harmful_intent_filter() -> HarmfulIntentFilter:
    """The rules that the project carries."""
    text = files("services.curation").joinpath("harmful_intent.yaml").read_text("utf-8")
    return HarmfulIntentFilter(yaml.safe_load(text))
