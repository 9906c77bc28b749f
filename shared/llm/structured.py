"""Structured output: a strict JSON schema of a pydantic model, and a tolerant reading of what came back."""

import json
import re
from functools import lru_cache
from importlib import resources
from typing import Any

from pydantic import BaseModel, ValidationError

from shared.llm.protocol import CompletionRequest, Message, Output

_FENCE = re.compile(r"```[A-Za-z0-9_-]*[ \t]*\n(?P<inside>.*?)\n?[ \t]*```", re.DOTALL)
_CAMEL_BORDER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_UNSUPPORTED = frozenset({"default", "title", "examples", "minLength", "maxLength", "discriminator", "uniqueItems"})
"""Keywords that strict mode refuses or that say nothing to a model; pydantic checks the lengths afterwards."""
_LONGEST_PROBLEM = 2000


class NotValid(Exception):
    """The text holds no JSON that the model accepts. The message tells what is wrong, without quoting the text."""


@lru_cache(maxsize=1)
def _prompts() -> dict[str, str]:
    folder = resources.files("shared.llm").joinpath("prompts")
    return {name: folder.joinpath(f"{name}.md").read_text(encoding="utf-8") for name in ("repair", "schema")}


@lru_cache(maxsize=128)
def strict_schema(output: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of `output` in the strict dialect of structured outputs: every object closed, every property
    required. Treat the returned dict as read-only: it is shared.

    Source of the rules: OpenAI, "Structured model outputs", section "Supported schemas".

    Raises:
        ValueError: the model has a free-form mapping, which strict mode cannot express.
    """
    schema = output.model_json_schema(mode="validation")
    definitions = schema.pop("$defs", {})
    strict: dict[str, Any] = _strict(schema, definitions, output.__name__)
    if definitions:
        strict["$defs"] = {
            name: _strict(definition, definitions, f"{output.__name__}.{name}")
            for name, definition in definitions.items()
        }
    return strict


def schema_name(output: type[BaseModel]) -> str:
    """`PreferenceSets` becomes `preference_sets`."""
    return _CAMEL_BORDER.sub("_", output.__name__).lower()[:64]


def with_schema_in_prompt(request: CompletionRequest) -> list[Message]:
    """The messages with the schema written below the last user message, for servers without json_schema."""
    text = _prompts()["schema"].format(schema=json.dumps(request.schema, sort_keys=True)).strip()
    messages: list[Message] = list(request.messages)
    last = messages[-1]
    return [*messages[:-1], {"role": last["role"], "content": f"{last['content']}\n\n{text}"}]


def repair_messages(request: CompletionRequest, answer: str, problem: str) -> list[Message]:
    """The conversation that asks for a corrected answer."""
    return [
        *request.messages,
        {"role": "assistant", "content": answer},
        {"role": "user", "content": _prompts()["repair"].format(problem=problem).strip()},
    ]


def parse_output(text: str, output: type[Output]) -> Output:
    """The JSON object in `text`, validated. Code fences and talk around the object are tolerated.

    Raises:
        NotValid: no JSON object was found, or none that `output` accepts.
    """
    problem: str | None = None
    for candidate in _candidates(text):
        try:
            return output.model_validate_json(candidate)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False, include_context=False)
            if errors and errors[0]["type"] == "json_invalid":
                problem = problem or f"it is not valid JSON: {errors[0]['msg']}"
            else:
                problem = "\n".join(
                    f"- at {'/'.join(str(part) for part in found['loc']) or 'the top'}: {found['msg']}"
                    for found in errors
                )
                break
    raise NotValid((problem or "it holds no JSON object")[:_LONGEST_PROBLEM])


def _candidates(text: str) -> Any:
    """The whole text, then what stands in fences, then the first object that can be decoded."""
    yield text
    for match in _FENCE.finditer(text):
        yield match["inside"]
    decoder = json.JSONDecoder()
    start = text.find("{")
    tries = 0
    while start >= 0 and tries < 16:
        try:
            _, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            if error.msg.startswith("Unterminated") or error.pos >= len(text.rstrip()):
                return  # the object was cut off: one inside it is not the answer
            start = text.find("{", start + 1)
            tries += 1
            continue
        except RecursionError:
            return
        yield text[start:end]
        return


def _strict(node: Any, definitions: dict[str, Any], where: str) -> Any:
    if isinstance(node, list):
        return [_strict(item, definitions, where) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        siblings = {key: value for key, value in node.items() if key != "$ref" and key not in _UNSUPPORTED}
        if not siblings:
            return {"$ref": node["$ref"]}
        # A reference may have no neighbours in strict mode: write the definition out instead.
        target = definitions[str(node["$ref"]).removeprefix("#/$defs/")]
        return _strict({**target, **siblings}, definitions, where)
    only = node.get("allOf")
    if isinstance(only, list) and len(only) == 1:
        rest = {key: value for key, value in node.items() if key != "allOf"}
        return _strict({**only[0], **rest}, definitions, where)
    strict: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            strict[key] = {name: _strict(part, definitions, f"{where}.{name}") for name, part in value.items()}
        elif key in ("enum", "const", "required"):
            strict[key] = value
        elif key == "oneOf":
            strict["anyOf"] = _strict(value, definitions, where)
        elif key not in _UNSUPPORTED:
            strict[key] = _strict(value, definitions, where)
    if node.get("type") == "object":
        properties = strict.get("properties", {})
        if not properties or isinstance(node.get("additionalProperties"), dict):
            raise ValueError(
                f"{where} is a mapping with free keys, which strict structured output cannot express: "
                "use a list of objects with named fields"
            )
        strict["additionalProperties"] = False
        strict["required"] = list(properties)
    return strict
