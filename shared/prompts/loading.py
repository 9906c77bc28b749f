"""Prompt files: Markdown with Jinja2 slots, cut into messages by lines of the form `<!-- role: system -->`.

Everything before the first such line is a note to the reader of the file and is never sent. Slots are strict (a missing
value is an error) and the environment is sandboxed. Values are data: they are never rendered as templates themselves.
"""

import re
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, Literal, cast

import orjson
from jinja2 import StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from shared.llm.protocol import Message

Role = Literal["system", "user", "assistant"]

_ROLE_LINE = re.compile(r"^<!-- role: (\w+) -->[ \t]*$", re.MULTILINE)
_ROLES = ("system", "user", "assistant")


def _json_block(value: object) -> str:
    """The value as a fenced JSON block. Line breaks inside texts are escaped by JSON, so that no text can end the block."""
    return f"```json\n{orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()}\n```"


# Prompts are plain text for a language model, not HTML: escaping would change what the model reads.
_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined,
    autoescape=False,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["json_block"] = _json_block


class Prompt:
    """One prompt file.

    `text` is the file as it is, `version` the first 12 hex digits of the sha256 of its bytes: two runs with the same version sent
    the same words.
    """

    def __init__(self, name: str, text: str) -> None:
        """Raises ValueError for a file without messages, with an unknown role, or with a slot that does not parse."""
        self.name = name
        self.text = text
        self.version = sha256(text.encode()).hexdigest()[:12]
        self._parts = self._parse(name, text)

    @staticmethod
    def _parse(name: str, text: str) -> tuple[tuple[Role, Template], ...]:
        pieces = _ROLE_LINE.split(text)
        if len(pieces) < 3:
            raise ValueError(f"prompt {name!r} has no line such as `<!-- role: user -->`: it holds no message")
        parts: list[tuple[Role, Template]] = []
        for role, body in zip(pieces[1::2], pieces[2::2], strict=True):
            if role not in _ROLES:
                raise ValueError(f"prompt {name!r} names the role {role!r}; known are {', '.join(_ROLES)}")
            parts.append((cast("Role", role), _ENVIRONMENT.from_string(body.strip())))
        return tuple(parts)

    def messages(self, **values: Any) -> list[Message]:
        """The messages with all slots filled. Raises jinja2.UndefinedError for a slot without a value."""
        return [Message(role=role, content=template.render(values)) for role, template in self._parts]


@lru_cache(maxsize=256)
def load_prompt(package: str, name: str) -> Prompt:
    """The prompt `prompts/<name>.md` of `package`, such as `load_prompt("services.composition", "system_message")`.

    Raises FileNotFoundError where the package has no such prompt, ValueError for a malformed one.
    """
    source = files(package).joinpath("prompts", f"{name}.md")
    return Prompt(f"{package}/{name}", source.read_text(encoding="utf-8"))
