"""The tokens of a prompt alone, as a server needs them."""

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.chat_template import ConversationTokenizer, Message, Role, conversation, template_text
from tests.support.tiny_models import tiny_tokenizer

_WORDS = st.sampled_from(["sea", " ", "</s>", "[INST]", "[/INST]", "<s>", "été", "\n", "数", "[", "s>"])
TEXTS = st.lists(_WORDS, min_size=1, max_size=12).map("".join)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    made = tiny_tokenizer()
    made.chat_template = template_text()
    return made


@pytest.fixture(scope="module")
def conversations(tokenizer: Any) -> ConversationTokenizer:
    return ConversationTokenizer(tokenizer)


@given(system=st.none() | TEXTS, text=TEXTS)
def test_a_prompt_has_the_tokens_that_training_has(
    conversations: ConversationTokenizer, system: str | None, text: str
) -> None:
    messages = conversation(system, text)
    [[encoded]] = conversations.encode([(messages, ["Yes."])])
    if encoded.fault is None:
        assert conversations.prompt(messages).ids == encoded.prompt_ids


@given(text=TEXTS)
def test_only_the_template_writes_control_tokens(
    conversations: ConversationTokenizer, tokenizer: Any, text: str
) -> None:
    ids = conversations.prompt(conversation(None, text)).ids
    controls = [number for number in ids if number in conversations.control_ids]
    assert tokenizer.convert_ids_to_tokens(controls) == ["<s>", "[INST]", "[/INST]"]


@given(text=TEXTS)
def test_offsets_say_which_characters_each_token_covers(conversations: ConversationTokenizer, text: str) -> None:
    told = conversations.prompt(conversation(None, text), offsets=True)
    assert told.text == f"<s>[INST] {text} [/INST]"
    assert len(told.offsets) == len(told.ids)
    place = 0
    for start, stop in told.offsets:
        assert start <= place <= stop  # bytes of one character may be several tokens
        place = max(place, stop)
    assert place == len(told.text)


def test_a_last_message_of_the_assistant_is_gone_on_with(conversations: ConversationTokenizer, tokenizer: Any) -> None:
    messages: list[Message] = [
        {"role": "user", "content": "Which sea?"},
        {"role": "assistant", "content": "The North </s> Sea  \n"},
    ]
    told = conversations.prompt(messages, offsets=True)
    assert told.text.endswith("[/INST] The North </s> Sea")
    assert tokenizer.eos_token_id not in told.ids
    [[whole]] = conversations.encode([(messages[:1], ["The North </s> Sea"])])
    assert [*told.ids, tokenizer.eos_token_id] == whole.prompt_ids + whole.reply_ids


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "template"),
        ([{"role": "system", "content": "a"}], "template"),
        ([{"role": "assistant", "content": "a"}], "template"),
        ([{"role": "user", "content": "\U0010fffd"}], "reserved_text"),
    ],
)
def test_what_cannot_be_read_is_told_as_a_fault(
    conversations: ConversationTokenizer, messages: list[Message], fault: str
) -> None:
    assert conversations.prompt(messages).fault == fault


def test_orders_of_roles_without_end_do_not_fill_the_memory(conversations: ConversationTokenizer) -> None:
    roles: tuple[Role, Role] = ("user", "assistant")
    for order in product(roles, repeat=9):
        conversations.prompt([{"role": role, "content": "a"} for role in order])
    assert len(conversations._shapes) <= 256
