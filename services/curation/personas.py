"""Instructions that already carry a persona or a preference. The rules are data (`personas.yaml`).

What counts, and how well the rules find it on labelled real instructions, is in docs/persona-filter.md.
"""

from functools import lru_cache
from importlib.resources import files

import yaml

from services.curation.text_rules import RuleFilter

REASONS = ("role", "voice", "audience", "manner")


class PersonaFilter(RuleFilter):
    """The rules of a file in the form of `personas.yaml`."""

    def __init__(self, data: object) -> None:
        """Raises what RuleFilter raises."""
        super().__init__(data, REASONS)


@lru_cache(maxsize=1)
def persona_filter() -> PersonaFilter:
    """The rules that the project carries."""
    text = files("services.curation").joinpath("personas.yaml").read_text("utf-8")
    return PersonaFilter(yaml.safe_load(text))
