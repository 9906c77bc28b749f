"""Conversations as tokens, in which only the template writes control tokens.

A text may hold `</s>` or `[INST]` in so many letters: tokenised as usual, it would end the sequence or open a turn. Here the
tokenizer is copied with every control token spelled in another way, `<mark></s><mark>`, and the template's own pieces are
spelled so before all is tokenised in one go. What a text says is then ordinary letters, and everything else comes out as the
tokenizer would have it: for texts without such words the tokens are exactly those of the rendered conversation.

Control tokens are the tokenizer's special tokens and every added token that the template writes. Where a vocabulary has no
token `[INST]` (Mistral-7B v0.1 and v0.2), the template's `[INST]` is ordinary letters too, and so it stays.
"""

import json
import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import msgspec

from shared.chat_template.conversation import Message, Role
from shared.chat_template.rendering import ChatTemplateError
from shared.chat_template.shapes import MARK, Shape, holds_mark, prompt_pieces, shape_of
from shared.domain.errors import InputRefused

_KEPT_SHAPES = 256
"""A server is sent orders of roles without end; finding a shape again costs a few renderings."""


class EncodedReply(msgspec.Struct, frozen=True):
    """Tokens of a prompt, and of a reply with its EOS. `fault` says why there are none: `reserved_text` (a text holds the
    character that marks control tokens here), `template` (it refuses these roles) or `unclear_boundary` (a token spans the
    end of the prompt and the beginning of the reply)."""

    prompt_ids: list[int]
    reply_ids: list[int]
    fault: str | None = None


class EncodedPrompt(msgspec.Struct, frozen=True):
    """Tokens of what a model reads before it writes. `text` is what they stand for, `offsets` the characters of it that each
    token covers; `fault` as in `EncodedReply`."""

    ids: list[int]
    text: str = ""
    offsets: list[tuple[int, int]] = []
    fault: str | None = None


class ConversationTokenizer:
    """Turns conversations into tokens by a tokenizer's own chat template, which must be installed."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer`: of transformers, with a fast backend, a chat template and an EOS token.

        Raises InputRefused for a tokenizer without a fast backend, or of a kind whose control tokens cannot be told apart.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise InputRefused(
                f"the tokenizer ({type(tokenizer).__name__}) has no tokenizer.json; save the model with a fast tokenizer",
                "/base",
            )
        self.template: str = tokenizer.chat_template
        self._bos: str | None = tokenizer.bos_token
        self._eos: str = tokenizer.eos_token
        self._controls, self._backend = _protected(backend, self.template)
        self._pattern = re.compile("|".join(re.escape(text) for text in sorted(self._controls, key=len, reverse=True)))
        self._shapes: dict[tuple[Role, ...], Shape | None] = {}

    @property
    def control_ids(self) -> frozenset[int]:
        """Ids of the tokens that only the template may write."""
        return frozenset(self._controls.values())

    def encode(self, rows: Sequence[tuple[Sequence[Message], Sequence[str]]]) -> list[list[EncodedReply]]:
        """For each prompt its replies' tokens: [(messages, replies)] → per row one `EncodedReply` per reply.

        The tokens of prompt and reply are those of both together, cut where the prompt's own tokens end.
        """
        texts: list[str] = []
        faults: list[str | None] = []
        for messages, replies in rows:
            strings, fault = self._strings(messages, replies)
            texts += strings
            faults.append(fault)
        tokens = iter([encoding.ids for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=False)])
        encoded = []
        for (_, replies), fault in zip(rows, faults, strict=True):
            if fault is not None:
                encoded.append([EncodedReply([], [], fault) for _ in replies])
                continue
            prompt = next(tokens)
            encoded.append([_cut(prompt, next(tokens)) for _ in replies])
        return encoded

    def prompt(self, messages: Sequence[Message], *, offsets: bool = False) -> EncodedPrompt:
        """The tokens of a prompt alone, as training has them; text and offsets are told where they are asked for.

        A last message of the assistant is the beginning of its reply, which the model goes on with: no EOS, and no white space
        at its end.
        """
        *before, last = messages
        if last["role"] == "assistant":
            spelled, fault = self._strings(before, [last["content"].rstrip()]) if before else ([], "template")
            spelled = [text.removesuffix(self._spelled(self._eos)) for text in spelled[1:]]
        else:
            spelled, fault = self._strings(messages, [])
        if fault is not None:
            return EncodedPrompt([], fault=fault)
        encoding = self._backend.encode(spelled[0], add_special_tokens=False)
        if not offsets:
            return EncodedPrompt(encoding.ids)
        return EncodedPrompt(encoding.ids, spelled[0].replace(MARK, ""), _without_marks(spelled[0], encoding.offsets))

    def _strings(self, messages: Sequence[Message], replies: Sequence[str]) -> tuple[list[str], str | None]:
        if any(holds_mark(message["content"]) for message in messages) or any(holds_mark(reply) for reply in replies):
            return [], "reserved_text"
        shape = self._shape(tuple(message["role"] for message in messages))
        if shape is None:
            return [], "template"
        pieces = prompt_pieces(shape, [message["content"] for message in messages])
        prompt = "".join(self._spelled(text) if own else text for text, own in pieces)
        end = self._spelled(self._eos)
        return [prompt, *(f"{prompt}{shape.lead}{shape.reply.filled(reply)}{end}" for reply in replies)], None

    def _shape(self, roles: tuple[Role, ...]) -> Shape | None:
        if roles not in self._shapes:
            if len(self._shapes) >= _KEPT_SHAPES:
                self._shapes.clear()
            try:
                self._shapes[roles] = shape_of(self.template, roles, self._bos, self._eos)
            except ChatTemplateError:
                self._shapes[roles] = None
        return self._shapes[roles]

    def _spelled(self, text: str) -> str:
        return self._pattern.sub(lambda found: _other_spelling(found.group()), text)


def _cut(prompt: list[int], whole: list[int]) -> EncodedReply:
    if whole[: len(prompt)] != prompt:
        return EncodedReply([], [], "unclear_boundary")
    return EncodedReply(prompt, whole[len(prompt) :])


def _without_marks(spelled: str, offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    before = list(accumulate((character == MARK for character in spelled), initial=0))
    return [(start - before[start], stop - before[stop]) for start, stop in offsets]


def _other_spelling(control: str) -> str:
    return f"{MARK}{control}{MARK}"


def _protected(backend: Any, template: str) -> tuple[dict[str, int], Any]:
    """(text → id of every control token, the copy that knows them by their other spelling)."""
    description: dict[str, Any] = json.loads(backend.to_str())
    controls: dict[str, int] = {}
    for added in description["added_tokens"]:
        if added["special"] or added["content"] in template:
            controls[added["content"]] = added["id"]
            added["content"] = _other_spelling(added["content"])
    _respell_vocabulary(description["model"], controls)
    # It only adds tokens around a text, which the template does itself.
    description["post_processor"] = None
    description["truncation"] = description["padding"] = None
    copy = type(backend).from_str(json.dumps(description))
    if any(copy.token_to_id(_other_spelling(text)) != number for text, number in controls.items()):
        raise InputRefused(
            f"the control tokens of the tokenizer ({description['model'].get('type')}) cannot be told from text; use a model "
            "with a BPE, Unigram or WordPiece tokenizer",
            "/base",
        )
    return controls, copy


def _respell_vocabulary(model: dict[str, Any], controls: dict[str, int]) -> None:
    """Spell control tokens differently in the vocabulary below the added tokens too: `</s>` is often a piece of its own there,
    and letters could merge into it. Ids stay."""
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        model["vocab"] = {
            _other_spelling(piece) if piece in controls else piece: number for piece, number in vocabulary.items()
        }
    elif isinstance(vocabulary, list):
        model["vocab"] = [
            [_other_spelling(piece) if piece in controls else piece, score] for piece, score in vocabulary
        ]
    if model.get("unk_token") in controls:
        model["unk_token"] = _other_spelling(model["unk_token"])
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if not _touches(merge, controls)]


def _touches(merge: str | list[str], controls: dict[str, int]) -> bool:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left in controls or right in controls or left + right in controls
