"""The text of a conversation under our template, and what the renderer takes from templates of others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.chat_template import ChatTemplateError, Message, conversation, render


def rendered(messages: list[Message], **options: object) -> str:
    return render(messages, bos="<s>", eos="</s>", **options)  # type: ignore[arg-type]


def test_system_message_and_instruction_share_the_first_user_turn() -> None:
    text = rendered(conversation("Be brief.\nBe kind.", "Name a fruit.", "Apple."))
    assert text == "<s>[INST] Be brief.\nBe kind.\nName a fruit. [/INST] Apple.</s>"


@pytest.mark.parametrize("system", [None, "", " \n"])
def test_without_a_system_message_the_instruction_stands_alone(system: str | None) -> None:
    assert rendered(conversation(system, "Name a fruit.", "Apple.")) == "<s>[INST] Name a fruit. [/INST] Apple.</s>"


def test_a_reward_input_reads_like_system_message_and_instruction() -> None:
    joined = conversation(None, "Be brief.\nName a fruit.")
    assert rendered(joined) == rendered(conversation("Be brief.", "Name a fruit."))


def test_later_turns_follow_without_the_system_message() -> None:
    messages = [*conversation("Be brief.", "One?", "1."), *conversation(None, "Two?", "2.")]
    assert rendered(messages) == "<s>[INST] Be brief.\nOne? [/INST] 1.</s>[INST] Two? [/INST] 2.</s>"


@given(system=st.none() | st.text(), instruction=st.text(), reply=st.text())
def test_a_prompt_is_the_beginning_of_the_whole_and_texts_stay_as_they_are(
    system: str | None, instruction: str, reply: str
) -> None:
    prompt = rendered(conversation(system, instruction), add_generation_prompt=True)
    assert rendered(conversation(system, instruction, reply)) == f"{prompt} {reply}</s>"
    assert instruction in prompt


@pytest.mark.parametrize(
    "roles",
    [["assistant"], ["user", "user"], ["user", "system"], ["system", "system", "user"], ["user", "assistant", "tool"]],
)
def test_roles_out_of_order_are_refused(roles: list[str]) -> None:
    with pytest.raises(ChatTemplateError, match="at most one system message"):
        rendered([{"role": role, "content": "text"} for role in roles])  # type: ignore[typeddict-item]


def test_a_template_has_no_clock_and_takes_its_fixed_date() -> None:
    template = "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}26 Jul{% endif %}"
    assert rendered(conversation(None, "x"), template=template) == "26 Jul"


@pytest.mark.parametrize(
    "template", ["{{ strftime_now('%d') }}", "{% if %}", "{{ messages[0].__class__.__mro__ }}", "{{ 'a' + 1 }}"]
)
def test_a_template_that_cannot_be_rendered_is_refused(template: str) -> None:
    with pytest.raises(ChatTemplateError):
        rendered(conversation(None, "x"), template=template)
