"""Renders chat templates in a sandbox, as transformers does (`apply_chat_template`), but without transformers.

One difference is wanted: there is no clock. A template that writes the date of the day would make other tokens of the
same row tomorrow, and a training that goes on after a break would not be the same training. Templates that look
whether there is a clock take their fixed date; those that do not are refused.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from shared.chat_template.conversation import Message
from shared.chat_template.families import template_text
from shared.domain.errors import MultifacetError


class ChatTemplateError(MultifacetError):
    """A template cannot be read, or refuses the messages."""

    code = "chat_template"


class _GenerationMarks(Extension):
    """`{% generation %}…{% endgeneration %}` marks what a model writes itself; rendered, it is what stands inside."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def render(
    messages: Sequence[Message],
    *,
    bos: str | None,
    eos: str | None,
    add_generation_prompt: bool = False,
    template: str | None = None,
) -> str:
    """The text of a conversation; `template` None means ours. `bos` and `eos` are the model's tokens that begin and end it.

    With `add_generation_prompt` it ends where the model's reply begins. Raises ChatTemplateError for a template that cannot
    be read, and for messages that it refuses (such as roles out of order).
    """
    try:
        return _compiled(template_text() if template is None else template).render(
            messages=list(messages),
            bos_token=bos or "",
            eos_token=eos or "",
            add_generation_prompt=add_generation_prompt,
        )
    except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise ChatTemplateError(f"the chat template cannot render these messages: {error}") from error


@lru_cache(maxsize=16)
def _compiled(template: str) -> jinja2.Template:
    # Chat templates write what a model reads, not HTML: escaping would change it.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, autoescape=False, extensions=[_GenerationMarks, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    return environment.from_string(template)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """As transformers defines it: jinja2's own filter escapes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)
