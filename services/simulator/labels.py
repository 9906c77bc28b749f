"""What is wrong with an answer, told apart from the answer: the truth that a check of the answers is measured against."""

from collections import deque
from typing import Any

import msgspec

KEPT_LABELS = 100_000
NO_SLIP = "none"


class Label(msgspec.Struct, frozen=True):
    """What one answer holds that is wrong in meaning.

    `fault` is the slip that was made, `asked` the one that the plan held: where a request cannot carry it (a set of one wish
    cannot contradict itself) the answer is sound and `fault` is "none". `set` and `slots` are the numbers of the request's
    block (`augment`); `detail` tells kinds of one slip apart.
    """

    fault: str
    asked: str
    set: int | None = None
    slots: tuple[int, ...] = ()
    detail: str = ""

    @property
    def made(self) -> bool:
        """Whether the answer holds a slip."""
        return self.fault != NO_SLIP


class LabelStore:
    """The labels of the answers sent last."""

    def __init__(self, kept: int = KEPT_LABELS) -> None:
        self._kept: deque[tuple[str, str, str, Label]] = deque(maxlen=kept)

    def add(self, request_class: str, content_digest: str, body_digest: str, label: Label) -> None:
        self._kept.append((request_class, content_digest, body_digest, label))

    def clear(self) -> None:
        self._kept.clear()

    def as_builtins(self) -> list[dict[str, Any]]:
        """The labels, oldest first, as JSON: `sha256` is that of the content sent, `body` the digest of the request."""
        return [
            {"request_class": name, **msgspec.to_builtins(label), "sha256": content, "body": body}
            for name, content, body, label in self._kept
        ]
