"""A row of an export, or of an uploaded file with its columns, as a prompt with one reply (sft) or two (pairs)."""

from collections.abc import Collection
from typing import Any, cast

import msgspec

from shared.chat_template import Message, Role, conversation
from shared.domain.errors import InputRefused
from shared.domain.training import Method

POINTER = "/data"

_PAIR_COLUMNS = ("prompt", "chosen", "rejected")
_NEEDED: dict[Method, tuple[tuple[str, ...], ...]] = {
    Method.SFT: (("prompt", "output"),),
    Method.DPO: (_PAIR_COLUMNS,),
    Method.ORPO: (_PAIR_COLUMNS,),
    Method.REWARD: (("input", "chosen", "rejected"), _PAIR_COLUMNS),
}
_ROLES = ("system", "user", "assistant")


class Example(msgspec.Struct, frozen=True):
    """A prompt and its replies: one response, or chosen and rejected."""

    messages: list[Message]
    replies: tuple[str, ...]


class RowFault(Exception):
    """A row that cannot be trained on. `reason` is one of the reasons that `SplitCounts.lost` counts."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def used_columns(method: Method, present: Collection[str], file: str) -> tuple[str, ...]:
    """The columns that a training of this method reads from a file with the columns `present`.

    Raises InputRefused, naming what is there and what is needed.
    """
    for needed in _NEEDED[method]:
        if set(needed) <= set(present):
            return (*needed, "system") if "prompt" in needed and "system" in present else needed
    needs = " or ".join(", ".join(needed) for needed in _NEEDED[method])
    raise InputRefused(
        f"the {file} data have the columns {', '.join(sorted(present)) or '(none)'}, but {method.value} needs {needs} (beside "
        f"prompt, system is read where it is there); choose the export of {method.value}, or rename the columns",
        POINTER,
    )


def example_of(fields: dict[str, Any], method: Method, columns: Collection[str]) -> Example:
    """The row as an example. Raises RowFault: `wrong_form`, `empty_prompt` or `empty_response`."""
    if method is Method.SFT:
        example = Example(
            conversation(_optional(fields.get("system")), _text(fields["prompt"])), (_text(fields["output"]),)
        )
    elif "input" in columns:
        # System message, newline, instruction: joined as our template joins them.
        messages = conversation(None, _text(fields["input"]).removeprefix("\n"))
        example = Example(messages, (_text(fields["chosen"]), _text(fields["rejected"])))
    else:
        example = _pair(fields)
    if any(message["role"] == "user" and not message["content"].strip() for message in example.messages):
        raise RowFault("empty_prompt")
    if any(not reply.strip() for reply in example.replies):
        raise RowFault("empty_response")
    return example


def _pair(fields: dict[str, Any]) -> Example:
    """Each side is a text, or turns of which the last is the reply; turns before it must be the same on both sides and hold
    the prompt."""
    system = _optional(fields.get("system"))
    before_chosen, chosen = _side(fields["chosen"])
    before_rejected, rejected = _side(fields["rejected"])
    prompt = fields["prompt"]
    if isinstance(prompt, str):
        messages = before_chosen or conversation(None, prompt)
        agrees = any(message["role"] == "user" and message["content"] == prompt for message in messages)
    else:
        messages = _turns(prompt)
        agrees = not before_chosen or before_chosen == messages
    if before_chosen != before_rejected or not agrees or not messages or messages[-1]["role"] != "user":
        raise RowFault("wrong_form")
    if system is not None and system.strip():
        if messages[0]["role"] == "system":
            if messages[0]["content"] != system:
                raise RowFault("wrong_form")
        else:
            messages = [{"role": "system", "content": system}, *messages]
    elif messages[0]["role"] == "system" and not messages[0]["content"].strip():
        messages = messages[1:]
    return Example(messages, (chosen, rejected))


def _side(value: Any) -> tuple[list[Message], str]:
    if value is None or isinstance(value, str):
        return [], value or ""
    turns = _turns(value)
    if not turns or turns[-1]["role"] != "assistant":
        raise RowFault("wrong_form")
    return turns[:-1], turns[-1]["content"]


def _turns(value: Any) -> list[Message]:
    if not isinstance(value, list):
        raise RowFault("wrong_form")
    turns: list[Message] = []
    for turn in value:
        if not isinstance(turn, dict) or turn.get("role") not in _ROLES:
            raise RowFault("wrong_form")
        turns.append({"role": cast("Role", turn["role"]), "content": _text(turn.get("content"))})
    return turns


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowFault("wrong_form")
    return value


def _optional(value: Any) -> str | None:
    return None if value is None else _text(value)
