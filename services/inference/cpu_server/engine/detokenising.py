"""From tokens to text, one token at a time.

Each token of the vocabulary is so many bytes, worked out once; a text is the bytes of its tokens read as UTF-8. So a character
of several tokens appears with the last of them, and nothing is decoded twice. Bytes that are no UTF-8 become U+FFFD as Python's
decoder has it.
"""

import codecs
import json
import re
from collections.abc import Sequence
from typing import Any

from shared.domain.errors import InputRefused

_META_SPACE = "▁"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class TokenTexts:
    """What each token of a tokenizer's vocabulary is written as."""

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:
        """`tokenizer`: of transformers, with a fast backend; `vocabulary`: how many scores the model gives.

        Raises InputRefused for a tokenizer that is neither byte-level nor of SentencePiece's kind.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise InputRefused(
                f"the tokenizer ({type(tokenizer).__name__}) has no tokenizer.json; save the model with a fast tokenizer"
            )
        description = json.loads(backend.to_str())
        kinds = _decoder_kinds(description.get("decoder"))
        if "ByteLevel" in kinds:
            to_bytes = _byte_level
        elif kinds & {"Metaspace", "ByteFallback"}:
            to_bytes = _sentence_piece
        else:
            raise InputRefused(
                f"the tokenizer's decoder ({', '.join(sorted(kinds)) or 'none'}) is not known to this server; serve a model "
                "with a byte-level or a SentencePiece tokenizer"
            )
        self.special: frozenset[int] = frozenset(
            token["id"] for token in description["added_tokens"] if token["special"]
        )
        # An added token stands for its own letters, whatever the decoder does to others.
        added = {token["id"]: token["content"] for token in description["added_tokens"]}
        size = max(vocabulary, backend.get_vocab_size(with_added_tokens=True))
        self._bytes = [b""] * size
        for piece, number in backend.get_vocab(with_added_tokens=True).items():
            self._bytes[number] = added[number].encode() if number in added else to_bytes(piece)

    def bytes_of(self, token: int) -> bytes:
        return self._bytes[token]

    def alone(self, token: int) -> str:
        """A token's text by itself."""
        return self._bytes[token].decode("utf-8", errors="replace")


class TextStream:
    """The text of one sequence as its tokens come."""

    def __init__(self, texts: TokenTexts, stop: Sequence[str] = ()) -> None:
        self._texts = texts
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = tuple(stop)
        self._longest = max(map(len, stop), default=0)
        self._pieces: list[str] = []
        self._tail = ""
        self.stopped_by: str | None = None

    @property
    def text(self) -> str:
        """Everything until now: what `add` and `end` returned."""
        return "".join(self._pieces)

    def add(self, token: int) -> str:
        """What a token adds. When that completes a stop sequence, `stopped_by` names it and the text ends with it."""
        return self._append(self._decoder.decode(self._texts.bytes_of(token)))

    def end(self) -> str:
        """What an incomplete character at the end is shown as: call it with the last token, when nothing follows."""
        return self._append(self._decoder.decode(b"", final=True))

    def _append(self, piece: str) -> str:
        if piece and self._stop:
            piece = self._until_stop(piece)
        if piece:
            self._pieces.append(piece)
        return piece

    def _until_stop(self, piece: str) -> str:
        before = len(self._tail)
        window = self._tail + piece
        # The stop sequence that is complete first ends the text; of two that end at once the one named first.
        ends = [
            (place + len(stop), number) for number, stop in enumerate(self._stop) if (place := window.find(stop)) >= 0
        ]
        if ends:
            end, number = min(ends)
            self.stopped_by = self._stop[number]
            return window[before:end]
        self._tail = window[-(self._longest - 1) :] if self._longest > 1 else ""
        return piece


def _decoder_kinds(decoder: dict[str, Any] | None) -> set[str]:
    if decoder is None:
        return set()
    if decoder["type"] == "Sequence":
        return {kind for inner in decoder["decoders"] for kind in _decoder_kinds(inner)}
    return {decoder["type"]}


def _byte_level(piece: str) -> bytes:
    values = [_BYTES_OF_LETTERS.get(letter) for letter in piece]
    if None in values:
        return piece.encode()
    return bytes(value for value in values if value is not None)


def _sentence_piece(piece: str) -> bytes:
    if found := _BYTE.fullmatch(piece):
        return bytes([int(found.group(1), 16)])
    return piece.replace(_META_SPACE, " ").encode()


def _letters_of_bytes() -> dict[int, str]:
    """How byte-level tokenizers write bytes as letters (Radford et al. 2019, GPT-2's encoder.py): printable ones as they are, the
    others as letters from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {value: chr(value) for value in printable}
    others = [value for value in range(256) if value not in letters]
    return letters | {value: chr(0x100 + place) for place, value in enumerate(others)}


_BYTES_OF_LETTERS = {letter: value for value, letter in _letters_of_bytes().items()}
