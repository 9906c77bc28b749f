"""Texts and conversations as the model's tokens."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from services.inference.cpu_server.http.bodies import MessageBody
from services.inference.cpu_server.http.errors import Refusal
from services.inference.cpu_server.http.replies import ChatTokens, PlacedToken
from shared.chat_template import ConversationTokenizer, Message, Role

INLINE_CHARACTERS = 4096
"""Longer texts are tokenised in a thread, so that other streams go on meanwhile."""

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}

Result = TypeVar("Result")


class Texts:
    """The tokenizer of the served model, and its chat template where it has one."""

    def __init__(self, tokenizer: Any, maximum_messages: int) -> None:
        """`tokenizer`: of transformers, with a fast backend. Every message takes a token at least, so a conversation of more
        messages than a prompt may have tokens (`maximum_messages`) cannot fit and is not rendered.

        Raises InputRefused for a tokenizer whose control tokens cannot be told from text.
        """
        self._raw = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
        self._raw.no_truncation()
        self._raw.no_padding()
        self._conversations = ConversationTokenizer(tokenizer) if tokenizer.chat_template else None
        self._maximum_messages = maximum_messages

    async def raw(self, text: str) -> list[int]:
        """A text as it stands, with the tokenizer's special tokens around it. Control words in it are the caller's business."""
        ids: list[int] = (await _aside(len(text), lambda: self._raw.encode(text))).ids
        return ids

    async def placed(self, text: str) -> list[PlacedToken]:
        """The tokens of `raw` and where they stand in the text."""
        encoding = await _aside(len(text), lambda: self._raw.encode(text))
        return _placed(text, encoding.ids, encoding.offsets)

    async def prompt(self, bodies: Sequence[MessageBody]) -> list[int]:
        """What the model reads before its reply: only the template writes control tokens. A last message of the assistant is
        gone on with. Raises Refusal."""
        messages, tokenizer = self._messages(bodies), self._template()
        encoded = await _aside(_characters(messages), lambda: tokenizer.prompt(messages))
        self._refuse(encoded.fault, messages)
        return encoded.ids

    async def placed_prompt(self, bodies: Sequence[MessageBody]) -> ChatTokens:
        """The tokens of `prompt` and the text that they stand for. Raises Refusal."""
        messages, tokenizer = self._messages(bodies), self._template()
        encoded = await _aside(_characters(messages), lambda: tokenizer.prompt(messages, offsets=True))
        self._refuse(encoded.fault, messages)
        return ChatTokens(_placed(encoded.text, encoded.ids, encoded.offsets), encoded.text)

    async def scored(self, bodies: Sequence[MessageBody]) -> list[int]:
        """A conversation with its reply and EOS, as reward models are trained on it. Raises Refusal."""
        messages, tokenizer = self._messages(bodies), self._template()
        *before, last = messages
        if last["role"] != "assistant" or not before:
            raise Refusal.invalid(
                f"the last message of a conversation is what is scored and must be the assistant's, after others; seen: roles "
                f"{_shown_roles(messages)}"
            )
        [[encoded]] = await _aside(_characters(messages), lambda: tokenizer.encode([(before, [last["content"]])]))
        self._refuse(encoded.fault, before)
        return encoded.prompt_ids + encoded.reply_ids

    def _template(self) -> ConversationTokenizer:
        if self._conversations is None:
            raise Refusal.template(
                "the served model has no chat template (no chat_template.jinja in its folder), so a conversation cannot be "
                "rendered; send plain text to /generate or /v1/completions"
            )
        return self._conversations

    def _messages(self, bodies: Sequence[MessageBody]) -> list[Message]:
        if not bodies:
            raise Refusal.invalid("`messages` is empty; send one message at least")
        if len(bodies) > self._maximum_messages:
            raise Refusal.invalid(
                f"{len(bodies)} messages cannot fit into a prompt of {self._maximum_messages} tokens; leave out earlier ones"
            )
        return [_message(body) for body in bodies]

    def _refuse(self, fault: str | None, messages: Sequence[Message]) -> None:
        if fault == "reserved_text":
            raise Refusal.invalid(
                "a message holds the private-use character U+10FFFD, which marks control tokens here; leave it out"
            )
        if fault == "unclear_boundary":
            raise Refusal.invalid(
                "a token spans the end of the prompt and the beginning of the reply, so the reply cannot be scored as it was "
                "trained; change how the reply begins"
            )
        if fault is not None:
            raise Refusal.template(
                f"the model's chat template does not take roles in the order {_shown_roles(messages)}; an optional system "
                "message, then user and assistant in turns, the user's last, is what most take"
            )


def _message(body: MessageBody) -> Message:
    role = _ROLES.get(body.role)
    if role is None:
        raise Refusal.invalid(
            f"a message has the role {body.role[:40]!r}; the model was trained on system, user and assistant"
        )
    if body.content is None:
        raise Refusal.invalid("a message has no `content`; tool calls are not served here")
    if isinstance(body.content, str):
        return {"role": role, "content": body.content}
    for part in body.content:
        if part.type != "text" or part.text is None:
            raise Refusal.invalid(
                f"a message has a part of type {part.type[:40]!r}; the model reads text alone, and no address is fetched"
            )
    return {"role": role, "content": "".join(part.text or "" for part in body.content)}


def _shown_roles(messages: Sequence[Message]) -> str:
    roles = [message["role"] for message in messages]
    return ", ".join(roles[:6]) + (f" … ({len(roles)} messages)" if len(roles) > 6 else "")


def _characters(messages: Sequence[Message]) -> int:
    return sum(len(message["content"]) for message in messages)


async def _aside(characters: int, work: Callable[[], Result]) -> Result:
    return work() if characters <= INLINE_CHARACTERS else await asyncio.to_thread(work)


def _placed(text: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> list[PlacedToken]:
    places = [0]
    for character in text:
        places.append(places[-1] + len(character.encode("utf-8")))
    return [
        PlacedToken(number, text[start:stop], places[start], places[stop])
        for number, (start, stop) in zip(ids, offsets, strict=True)
    ]
