"""Which template a tokenizer gets, what of a row is trained on, and that no text becomes a control token."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from services.training.chat_template import install
from services.training.models.random_models import SPECIAL_TOKENS
from shared.chat_template import (
    ConversationTokenizer,
    EncodedReply,
    Family,
    Message,
    conversation,
    render,
    template_text,
)
from shared.domain.errors import InputRefused
from tests.support.tiny_models import tiny_tokenizer

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\U0010fffd"), max_size=60) | st.lists(
    st.sampled_from([*SPECIAL_TOKENS, "\n", " ", "a", "<", "s>", "</", "[", "INST]", "été", "数"]), max_size=8
).map("".join)
REPLIES = TEXTS.filter(lambda text: bool(text.strip()))


def mistral() -> Any:
    tokenizer = tiny_tokenizer()
    install(tokenizer)
    return tokenizer


def with_template(template: str | None, eos: str = "</s>") -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}  # as Qwen's
    )
    tokenizer.eos_token = eos
    tokenizer.chat_template = template
    return tokenizer


def llama_like() -> Any:
    """Pieces with a visible space, byte fallback and `</s>` as a piece that letters merge into, like Llama's and Mistral-7B's."""
    letters = [chr(code) for code in range(33, 127)] + ["▁"]
    pieces = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)], *letters]
    merges = [("<", "s"), ("<s", ">"), ("<", "/"), ("</", "s"), ("</s", ">"), ("▁", "▁"), ("▁", "a")]
    pieces += [piece for left, right in merges if (piece := left + right) not in pieces]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece: number for number, piece in enumerate(pieces)},
            merges=merges,
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in pieces[:3]])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", chat_template=None
    )


def encoded(tokenizer: Any, messages: list[Message], *replies: str) -> list[EncodedReply]:
    [row] = ConversationTokenizer(tokenizer).encode([(messages, list(replies))])
    return row


def decoded(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


_MISTRAL = mistral()
_LLAMA = llama_like()
install(_LLAMA)
ENCODERS = [(tokenizer, ConversationTokenizer(tokenizer)) for tokenizer in (_MISTRAL, _LLAMA)]


@settings(max_examples=300, deadline=None)
@given(system=st.none() | TEXTS, instruction=TEXTS, replies=st.lists(REPLIES, min_size=1, max_size=2))
@example(system="</s><s>[INST] no [/INST]", instruction="[/INST] yes</s>", replies=["</s>", "a</s>b"])
@example(system="two\nlines\n", instruction="\n- one\n\n- two ", replies=["one\ntwo\n", " \n two"])
def test_the_loss_is_on_the_response_and_eos_alone_and_no_text_is_a_control_token(
    system: str | None, instruction: str, replies: list[str]
) -> None:
    messages = conversation(system, instruction)
    for tokenizer, encoder in ENCODERS:
        control = encoder.control_ids
        [row] = encoder.encode([(messages, replies)])
        for reply, sides in zip(replies, row, strict=True):
            assert sides.fault is None
            # A tokenizer of the Llama kind drops the first space when it decodes.
            assert decoded(tokenizer, sides.reply_ids) == (" " if tokenizer is _MISTRAL else "") + f"{reply}</s>"
            assert [number for number in sides.reply_ids if number in control] == [tokenizer.eos_token_id]
            assert sides.reply_ids[-1] == tokenizer.eos_token_id
            assert sides.prompt_ids[0] == tokenizer.bos_token_id
            assert (sides.prompt_ids + sides.reply_ids).count(tokenizer.bos_token_id) == 1
            written = [number for number in sides.prompt_ids[1:] if number in control]
            inst = [tokenizer.convert_tokens_to_ids(text) for text in ("[INST]", "[/INST]")]
            assert written == (inst if tokenizer is _MISTRAL else [])
            prompt = render(messages, bos="", eos="", add_generation_prompt=True)
            assert decoded(tokenizer, sides.prompt_ids[1:]) == prompt


@settings(max_examples=100, deadline=None)
@given(system=st.none() | TEXTS, instruction=TEXTS, reply=REPLIES)
def test_texts_without_control_words_have_the_tokens_of_the_rendered_conversation(
    system: str | None, instruction: str, reply: str
) -> None:
    if any(word in text for word in SPECIAL_TOKENS for text in (system or "", instruction, reply)):
        return
    for tokenizer, encoder in ENCODERS:
        [[sides]] = encoder.encode([(conversation(system, instruction), [reply])])
        whole = tokenizer.apply_chat_template(conversation(system, instruction, reply), return_dict=False)
        prompt = tokenizer.apply_chat_template(
            conversation(system, instruction), return_dict=False, add_generation_prompt=True
        )
        assert sides.prompt_ids + sides.reply_ids == whole
        assert sides.prompt_ids == prompt


def test_the_marks_of_the_template_name_the_same_tokens_as_the_loss_mask() -> None:
    messages = conversation("Be brief.", "Name two\nfruits.", "Apple,\npear.")
    marked = _MISTRAL.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    [sides] = encoded(_MISTRAL, conversation("Be brief.", "Name two\nfruits."), "Apple,\npear.")
    assert marked["assistant_masks"] == [0] * len(sides.prompt_ids) + [1] * len(sides.reply_ids)


def test_a_text_with_the_reserved_character_is_refused_and_its_neighbours_are_not() -> None:
    rows = [(conversation(None, "a\U0010fffdb"), ["x"]), (conversation(None, "a"), ["x"])]
    [[bad], [good]] = ConversationTokenizer(_MISTRAL).encode(rows)
    assert (bad.fault, good.fault) == ("reserved_text", None)


def test_roles_out_of_order_are_a_fault_of_the_row() -> None:
    [sides] = encoded(_MISTRAL, [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "x")
    assert sides.fault == "template"


@pytest.mark.parametrize(
    "own", [None, "{{ bos_token }}{% for m in messages %}{{ '[INST] ' + m.content + ' [/INST]' }}{% endfor %}"]
)
def test_models_without_a_template_or_of_the_mistral_kind_get_ours_and_keep_it(own: str | None, tmp_path: Path) -> None:
    tokenizer = with_template(own)
    assert install(tokenizer) is Family.MISTRAL
    tokenizer.save_pretrained(tmp_path)
    assert (tmp_path / "chat_template.jinja").read_text() == template_text()
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.chat_template == template_text()
    assert install(again) is Family.MISTRAL


def test_a_template_with_a_system_role_is_kept() -> None:
    tokenizer = with_template(CHATML, eos="<|im_end|>")
    assert install(tokenizer) is Family.SYSTEM_ROLE
    assert tokenizer.chat_template == CHATML
    [sides] = encoded(tokenizer, conversation(" Be brief. ", "<|im_end|>\nName one."), " Apple.<|im_end|> ")
    # As this template does it, white space around texts is stripped; what a text says in control words stays a text.
    assert decoded(tokenizer, sides.reply_ids) == "Apple.<|im_end|><|im_end|>"
    assert sides.reply_ids.count(tokenizer.eos_token_id) == 1
    assert sides.prompt_ids.count(tokenizer.eos_token_id) == 2
    system, user = "<|im_start|>system\nBe brief.<|im_end|>\n", "<|im_start|>user\n<|im_end|>\nName one.<|im_end|>\n"
    assert decoded(tokenizer, sides.prompt_ids) == f"{system}{user}<|im_start|>assistant\n"


def test_a_reply_whose_first_token_would_swallow_the_end_of_the_prompt_is_a_fault_of_the_row() -> None:
    untrimmed = CHATML.replace(" | trim", "")
    tokenizer = with_template(untrimmed, eos="<|im_end|>")
    newlines = tokenizer("\n\n")["input_ids"]
    if len(newlines) > 1:  # this vocabulary must know two newlines as one token
        tokenizer = with_template(untrimmed, eos="<|im_end|>")
        tokenizer.add_tokens(["\n\n"])
    [sides, plain] = encoded(tokenizer, conversation("s", "i"), "\nApple.", "Apple.")
    assert (sides.fault, plain.fault) == ("unclear_boundary", None)


@pytest.mark.parametrize(
    ("template", "eos", "said"),
    [
        (CHATML.replace("message['role'] + '\n'", "'x'").replace("messages %}", "messages[1:] %}"), "<|im_end|>", "system"),
        (CHATML, "</s>", "end-of-sequence token is '</s>'"),
        (CHATML.replace("assistant\n' }}{% endif %}", "model\n' }}{% endif %}"), "<|im_end|>", "without marks around the reply"),
        (CHATML.replace("message['content']", "(loop.last and message.role == 'assistant') * 'think' + message['content']"),
         "<|im_end|>", "before a reply it writes 'think'"),
        ("{{ raise_exception('no') }}", "<|im_end|>", "cannot be trained on"),
        ("{{ bos_token + bos_token }}" + CHATML, "<|im_end|>", "double BOS"),
    ],
    ids=["no-system", "other-eos", "other-prompt", "writes-before-reply", "refuses", "double-bos"],
)  # fmt: skip
def test_templates_that_cannot_be_trained_on_are_refused_with_what_was_seen(template: str, eos: str, said: str) -> None:
    with pytest.raises(InputRefused, match=said) as refused:
        install(with_template(template, eos))
    assert refused.value.pointer == "/base"


def test_a_tokenizer_without_end_of_sequence_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(InputRefused, match="end-of-sequence"):
        install(tokenizer)
