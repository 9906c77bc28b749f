"""A row as messages: system message where there is one, instruction, response."""

from typing import Literal, TypedDict

Role = Literal["system", "user", "assistant"]


class Message(TypedDict):
    """One message as chat templates read it."""

    role: Role
    content: str


def conversation(system: str | None, instruction: str, response: str | None = None) -> list[Message]:
    """The messages of a row; a system message of white space alone is none. Texts are kept as they are."""
    messages: list[Message] = []
    if system is not None and system.strip():
        messages.append({"role": "system", "content": system})
    messages.append({"role": "user", "content": instruction})
    if response is not None:
        messages.append({"role": "assistant", "content": response})
    return messages
