from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from services.inference.cpu_server.engine.detokenising import TextStream, TokenTexts
from shared.domain.errors import InputRefused
from tests.support.tiny_models import tiny_tokenizer

_BYTE_LEVEL = tiny_tokenizer()
_TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


def _sentence_piece(decoder: Any) -> Any:
    """Like Llama 2's: words with ▁ in front, bytes for what is not in the vocabulary."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256))]
    pieces = [*"▁abcdefghilnorstuw.,é", "▁the", "he", "▁t", "re"]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("r", "e")]
    model = models.BPE(
        {piece: number for number, piece in enumerate([*words, *pieces])}, merges,
        unk_token="<unk>", byte_fallback=True, fuse_unk=True,
    )  # fmt: skip
    backend = Tokenizer(model)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoder
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


_LLAMA = _sentence_piece(
    decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
)


_BYTE_LEVEL_TEXTS = TokenTexts(_BYTE_LEVEL, len(_BYTE_LEVEL))
_LLAMA_TEXTS = TokenTexts(_LLAMA, len(_LLAMA))


def _streamed(texts: TokenTexts, tokens: list[int]) -> tuple[list[str], str]:
    stream = TextStream(texts)
    pieces = [stream.add(token) for token in tokens]
    return [*pieces, stream.end()], stream.text


@given(_TEXTS)
def test_a_byte_level_text_comes_back_token_by_token(text: str) -> None:
    tokens = _BYTE_LEVEL(text, add_special_tokens=False)["input_ids"]
    pieces, whole = _streamed(_BYTE_LEVEL_TEXTS, tokens)
    assert "".join(pieces) == whole == text == _BYTE_LEVEL.decode(tokens)


@given(_TEXTS.filter(lambda text: "▁" not in text and not text.startswith(" ")))
def test_a_sentence_piece_text_comes_back_with_the_space_in_front_of_its_first_word(text: str) -> None:
    tokens = _LLAMA(text, add_special_tokens=False)["input_ids"]
    pieces, whole = _streamed(_LLAMA_TEXTS, tokens)
    assert "".join(pieces) == whole
    # Decoding a whole text strips that space; what goes on from a prompt needs it.
    assert whole == (f" {text}" if text else "")
    assert whole.removeprefix(" ") == _LLAMA.decode(tokens)


def test_a_character_of_several_tokens_appears_with_the_last_of_them() -> None:
    tokens = _LLAMA("a€", add_special_tokens=False)["input_ids"]
    assert _streamed(_LLAMA_TEXTS, tokens)[0] == [" ", "a", "", "", "€", ""]


def test_bytes_that_are_no_text_become_replacement_characters_once_that_is_certain() -> None:
    tokens = _LLAMA.convert_tokens_to_ids(["<0xE2>", "<0x82>", "a", "<0xE2>"])
    assert _streamed(_LLAMA_TEXTS, tokens)[0] == ["", "", "\ufffda", "", "\ufffd"]


def _until_stop(text: str, *stop: str) -> TextStream:
    stream = TextStream(_BYTE_LEVEL_TEXTS, stop)
    for token in _BYTE_LEVEL(text, add_special_tokens=False)["input_ids"]:
        stream.add(token)
        if stream.stopped_by is not None:
            break
    return stream


@given(_TEXTS, st.text(min_size=1, max_size=6), _TEXTS)
def test_a_stop_sequence_is_found_over_token_boundaries_and_ends_the_text(before: str, stop: str, after: str) -> None:
    text = before + stop + after
    stream = _until_stop(text, stop)
    assert stream.stopped_by == stop
    assert stream.text == text[: text.index(stop) + len(stop)]


def test_the_stop_sequence_that_is_complete_first_ends_the_text() -> None:
    stream = _until_stop("one two three", "three", "two th", "o t")
    assert (stream.stopped_by, stream.text) == ("o t", "one two t")


def test_special_tokens_are_known() -> None:
    texts = TokenTexts(_BYTE_LEVEL, 2000)
    assert texts.special == {0, 1, 2, 3, 4}
    assert texts.alone(2) == "</s>"
    assert texts.alone(1999) == ""


def test_a_tokenizer_of_another_kind_is_refused() -> None:
    backend = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece()
    with pytest.raises(InputRefused, match="WordPiece"):
        TokenTexts(PreTrainedTokenizerFast(tokenizer_object=backend), 2)
