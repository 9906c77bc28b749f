"""From a row of any layout to an instruction: a path or template per field, as data, compiled once per source.

A template is text with slots: `{prompt}`, `{turns.0}`, `{instances.0.input?}`. A slot is a column name, or a dotted path with
list positions; `?` makes it optional, so that a missing value is empty text. `{{` and `}}` stand for braces. A value that
starts with `$` is a JSONPath. Whatever a slot finds is reduced to text: of several messages, the first user turn.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

import msgspec
import yaml
from jsonpath_ng.exceptions import JSONPathError
from jsonpath_ng.ext.parser import parse as parse_json_path

from shared.domain.errors import InputRefused
from shared.domain.jobs import FieldMapping

USER_ROLES = frozenset({"user", "human", "prompter"})

_SLOT = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_TRANSCRIPT = re.compile(r"\s*Human:[ \t]*(.*?)\s*(?=\n\s*\n(?:Human|Assistant):|\Z)", re.DOTALL)
_TRANSCRIPT_REPLY = re.compile(r"\n\s*\nAssistant:")

_MISSING = object()


class MissingField(msgspec.Struct, frozen=True):
    """Why a row has no instruction: the field as it was mapped, and what was found there."""

    detail: str


class MappedRow(msgspec.Struct, frozen=True):
    """What a mapping takes from a row. Sources are None where the mapping names none or the row has none."""

    instruction: str
    main_source: str | None
    original_source: str | None


class ReadyMapping(msgspec.Struct, frozen=True):
    """A mapping that the project carries. `columns` identify its layout; `automatic`: `auto` may choose it by them."""

    description: str
    columns: list[str]
    instruction: str
    main_source: str
    original_source: str | None = None
    automatic: bool = True

    @property
    def fields(self) -> FieldMapping:
        return FieldMapping(
            instruction=self.instruction, main_source=self.main_source, original_source=self.original_source
        )


class _ReadyMappings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    mappings: dict[str, ReadyMapping]
    common_columns: list[str]


@lru_cache(maxsize=1)
def _carried() -> _ReadyMappings:
    text = files("shared.sources").joinpath("mappings.yaml").read_text("utf-8")
    return msgspec.convert(yaml.safe_load(text), _ReadyMappings)


def ready_mappings() -> dict[str, FieldMapping]:
    """The mappings that a source may name, by name."""
    return {name: mapping.fields for name, mapping in _carried().mappings.items()}


class CompiledMapping:
    """A mapping ready for many rows. `columns` are the top-level names that it reads, None where it may read any."""

    def __init__(self, name: str, fields: FieldMapping, pointer: str) -> None:
        """`name` is for people; raises InputRefused with `pointer` for a template or path that cannot be read."""
        self.name = name
        self.fields = fields
        self.columns: frozenset[str] | None = frozenset()
        self._pointer = pointer
        self._instruction = self._compile(fields.instruction, f"{pointer}/instruction")
        if self.columns == frozenset():
            raise InputRefused(
                f"the instruction template {fields.instruction!r} has no slot, so every row would be the same; "
                "name a column, such as {prompt}",
                f"{pointer}/instruction",
            )
        self._main_source = self._optional(fields.main_source, f"{pointer}/main_source")
        self._original_source = self._optional(fields.original_source, f"{pointer}/original_source")

    def _optional(self, template: str | None, pointer: str) -> Callable[[Mapping[str, Any]], Any] | None:
        return None if template is None else self._compile(template, pointer)

    def _compile(self, template: str, pointer: str) -> Callable[[Mapping[str, Any]], Any]:
        """A function from a row to a raw value, or to `_MISSING`."""
        if template.startswith("$"):
            return self._compile_path(template, pointer)
        parts: list[str | tuple[tuple[str, ...], bool]] = []
        end = 0
        for match in _SLOT.finditer(template):
            parts.append(template[end : match.start()])
            end = match.end()
            if match[0] in ("{{", "}}"):
                parts.append(match[0][0])
            elif match[1] is None or not match[1].strip(" ?"):
                raise InputRefused(
                    f"the template {template!r} has an unmatched brace or an empty slot at position {match.start()}; "
                    "write a slot as {column} and a brace as {{ or }}",
                    pointer,
                )
            else:
                slot = match[1].strip()
                parts.append((tuple(slot.removesuffix("?").split(".")), slot.endswith("?")))
        parts.append(template[end:])
        parts = [part for part in parts if part != ""]
        for part in parts:
            if not isinstance(part, str):
                self._reads(part[0][0])
                self._reads(".".join(part[0]))
        if len(parts) == 1 and not isinstance(parts[0], str):
            path = parts[0][0]
            return lambda row: _follow(row, path)
        return lambda row: _fill(parts, row)

    def _compile_path(self, text: str, pointer: str) -> Callable[[Mapping[str, Any]], Any]:
        try:
            path = parse_json_path(text)
        except (JSONPathError, ValueError, AttributeError) as error:
            raise InputRefused(f"{text!r} is no JSONPath: {error}", pointer) from error
        simple = re.fullmatch(r"\$((?:\.[A-Za-z_]\w*|\[\d+\])+)", text)
        if simple:  # a plain chain of names and positions needs no engine: some fifty times faster
            steps = tuple(re.findall(r"[A-Za-z_]\w*|\d+", simple[1]))
            self._reads(steps[0])
            return lambda row: _follow(row, steps)
        self.columns = None

        def found(row: Mapping[str, Any]) -> Any:
            values = [match.value for match in path.find(row)]
            return _MISSING if not values else values[0] if len(values) == 1 else values

        return found

    def _reads(self, column: str) -> None:
        if self.columns is not None:
            self.columns |= {column}

    def require_sources(self, rows: Sequence[MappedRow], columns: Sequence[str]) -> None:
        """Raise InputRefused at a source field that none of `rows` fills: it names something that is not there.

        A template of optional slots only may stay empty in every row.
        """
        for name in ("main_source", "original_source"):
            template = getattr(self.fields, name)
            if template is None or _only_optional(template) or any(getattr(row, name) is not None for row in rows):
                continue
            raise InputRefused(
                f"no row has anything at {template!r} for {name}; columns seen: {list(columns)}; name one that is there, "
                "write {column?} where rows may lack it, or leave the field out",
                f"{self._pointer}/{name}",
            )

    def apply(self, row: Mapping[str, Any]) -> MappedRow | MissingField:
        """The fields of one row. Never raises: a row without an instruction is a MissingField."""
        value = self._instruction(row)
        if value is _MISSING or value is None:
            seen = ", ".join(map(str, list(row)[:20])) or "none"
            return MissingField(f"nothing at {self.fields.instruction!r}; columns seen: {seen}")
        text = first_user_turn(value)
        if text is None:
            return MissingField(f"no user turn at {self.fields.instruction!r}")
        return MappedRow(text, self._source(self._main_source, row), self._source(self._original_source, row))

    @staticmethod
    def _source(take: Callable[[Mapping[str, Any]], Any] | None, row: Mapping[str, Any]) -> str | None:
        value = None if take is None else take(row)
        if value is None or value is _MISSING:
            return None
        if isinstance(value, Sequence) and not isinstance(value, str):
            return ", ".join(str(item) for item in value) or None
        return str(value).strip() or None


def compile_mapping(mapping: str | FieldMapping, columns: Sequence[str], pointer: str) -> CompiledMapping:
    """The mapping of a source whose rows have `columns`: given, ready by name, or chosen for `auto`.

    `auto` takes the first ready mapping all of whose columns are present, then the first common column name (with
    a column `source` as the original source). Raises
    InputRefused for an unknown name, for one whose layout does not fit, and where `auto` finds nothing.
    """
    where = f"{pointer}/mapping"
    if isinstance(mapping, FieldMapping):
        return CompiledMapping("given", mapping, where)
    carried = _carried()
    if mapping != "auto":
        ready = carried.mappings.get(mapping)
        if ready is None:
            names = ", ".join(["auto", *carried.mappings])
            raise InputRefused(f"there is no ready mapping {mapping!r}; set one of: {names}; or give the fields", where)
        return CompiledMapping(mapping, ready.fields, where)
    for name, ready in carried.mappings.items():
        if ready.automatic and set(ready.columns) <= set(columns):
            return CompiledMapping(name, ready.fields, where)
    for column in carried.common_columns:
        if column in columns:
            original_source = "{source}" if "source" in columns else None
            fields = FieldMapping(instruction=f"{{{column}}}", original_source=original_source)
            return CompiledMapping(f"auto: {column}", fields, where)
    raise InputRefused(
        f"`auto` found no instruction among the columns {list(columns)}; set `mapping` to "
        '{"instruction": "{your_column}"} or to a ready mapping',
        where,
    )


def _only_optional(template: str) -> bool:
    slots = [match[1] for match in _SLOT.finditer(template) if match[1]]
    return not template.startswith("$") and bool(slots) and all(slot.strip().endswith("?") for slot in slots)


def _follow(row: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """The value at a dotted path, `_MISSING` where a step leads nowhere. A column may itself have dots in its name."""
    value: Any = row
    for step in path:
        if isinstance(value, Mapping):
            if step not in value:
                return row.get(".".join(path), _MISSING) if len(path) > 1 else _MISSING
            value = value[step]
        elif isinstance(value, Sequence) and not isinstance(value, str) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return row.get(".".join(path), _MISSING) if len(path) > 1 else _MISSING
    return value


def _fill(parts: Sequence[str | tuple[tuple[str, ...], bool]], row: Mapping[str, Any]) -> Any:
    filled: list[str] = []
    for part in parts:
        if isinstance(part, str):
            filled.append(part)
            continue
        path, optional = part
        value = _follow(row, path)
        text = None if value is _MISSING or value is None else first_user_turn(value)
        if text is None and not optional:
            return _MISSING
        filled.append(text or "")
    return "".join(filled)


def first_user_turn(value: Any) -> str | None:
    """Text of a value: of a list of messages or turns, and of a `Human: … Assistant: …` transcript, the first user turn.

    Messages are mappings with `role` and `content`, or `from` and `value`. None where there is no user turn.
    """
    if isinstance(value, str):
        if "Human:" in value[:40] and _TRANSCRIPT_REPLY.search(value) and (match := _TRANSCRIPT.match(value)):
            return match[1]
        return value
    if isinstance(value, Mapping):
        return _content(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        for turn in value:
            if isinstance(turn, str):
                return turn
            if isinstance(turn, Mapping) and str(turn.get("role", turn.get("from", ""))).lower() in USER_ROLES:
                return _content(turn)
        return None
    return None if value is None or isinstance(value, bytes) else str(value)


def _content(message: Mapping[str, Any]) -> str | None:
    content = message.get("content", message.get("value", message.get("text")))
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):  # parts of a multimodal message: the text ones
        parts = [part["text"] for part in content if isinstance(part, Mapping) and isinstance(part.get("text"), str)]
        return "\n".join(parts) or None
    return None
