"""Rows of every layout as prompts with replies, and what makes a row unusable."""

from typing import Any

import pytest

from services.training.data.examples import RowFault, example_of, used_columns
from shared.chat_template import conversation
from shared.domain.errors import InputRefused
from shared.domain.training import Method

PAIR = {"system": "Be brief.", "prompt": "Name a fruit."}


def turns(*contents: str, system: str | None = None) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    opening = [] if system is None else [{"role": "system", "content": system}]
    return opening + [{"content": text, "role": roles[number % 2]} for number, text in enumerate(contents)]


def example(fields: dict[str, Any], method: Method = Method.DPO) -> Any:
    return example_of(fields, method, used_columns(method, fields, "training"))


def fault(fields: dict[str, Any], method: Method = Method.DPO) -> str:
    with pytest.raises(RowFault) as raised:
        example(fields, method)
    return raised.value.reason


def test_a_collection_row_is_system_message_instruction_and_response() -> None:
    read = example({"system": "Be brief.", "prompt": "Name a fruit.", "output": "Apple."}, Method.SFT)
    assert read.messages == conversation("Be brief.", "Name a fruit.")
    assert read.replies == ("Apple.",)


@pytest.mark.parametrize("system", [{}, {"system": ""}, {"system": None}])
def test_a_row_without_a_system_message_has_none(system: dict[str, Any]) -> None:
    read = example({**system, "prompt": "Name a fruit.", "output": "Apple."}, Method.SFT)
    assert read.messages == conversation(None, "Name a fruit.")


@pytest.mark.parametrize("method", [Method.DPO, Method.ORPO, Method.REWARD])
def test_a_pair_reads_the_same_from_turns_and_from_texts(method: Method) -> None:
    as_texts = example({**PAIR, "chosen": "Apple.", "rejected": "A car."}, method)
    as_turns = {**PAIR, "chosen": turns("Name a fruit.", "Apple."), "rejected": turns("Name a fruit.", "A car.")}
    assert as_texts == example(as_turns, method)
    assert as_texts.messages == conversation("Be brief.", "Name a fruit.")
    assert as_texts.replies == ("Apple.", "A car.")


def test_a_prompt_may_be_turns_and_a_side_its_reply_alone() -> None:
    read = example({"prompt": turns("Hi", "Hello", "Name one"), "chosen": [{"role": "assistant", "content": "Apple"}],
                    "rejected": "Car"})  # fmt: skip
    assert [message["content"] for message in read.messages] == ["Hi", "Hello", "Name one"]
    assert read.replies == ("Apple", "Car")


def test_a_conversation_of_several_turns_is_kept_whole() -> None:
    read = example({"prompt": "Hi", "chosen": turns("Hi", "Hello", "Name one", "Apple", system="S"),
                    "rejected": turns("Hi", "Hello", "Name one", "Car", system="S")})  # fmt: skip
    assert [message["role"] for message in read.messages] == ["system", "user", "assistant", "user"]


def test_a_reward_input_is_one_user_turn() -> None:
    read = example({"input": "Be brief.\nName a fruit.", "chosen": "Apple.", "rejected": "Car"}, Method.REWARD)
    assert read.messages == conversation(None, "Be brief.\nName a fruit.")


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        (turns("Another prompt", "Apple"), turns("Another prompt", "Car")),
        (turns("Name a fruit.", "Apple"), turns("Another prompt", "Car")),
        (turns("Name a fruit."), turns("Name a fruit.", "Car")),
        (turns("Name a fruit.", "Apple", system="Other"), turns("Name a fruit.", "Car", system="Other")),
        ([{"role": "tool", "content": "x"}], "Car"),
        (["Apple"], "Car"),
        (3, "Car"),
        ({"role": "assistant", "content": "x"}, "Car"),
    ],
)
def test_sides_that_disagree_or_are_no_turns_are_of_the_wrong_form(chosen: Any, rejected: Any) -> None:
    assert fault({**PAIR, "chosen": chosen, "rejected": rejected}) == "wrong_form"


def test_white_space_alone_is_empty() -> None:
    assert fault({"prompt": "x", "output": " \n"}, Method.SFT) == "empty_response"
    assert fault({"prompt": "", "output": "x"}, Method.SFT) == "empty_prompt"
    assert fault({**PAIR, "chosen": "x", "rejected": None}) == "empty_response"
    assert fault({"prompt": 3, "output": "x"}, Method.SFT) == "wrong_form"


@pytest.mark.parametrize(
    ("method", "needs"),
    [
        (Method.SFT, "sft needs prompt, output"),
        (Method.ORPO, "orpo needs prompt, chosen, rejected"),
        (Method.REWARD, "rm needs input, chosen, rejected or prompt, chosen, rejected"),
    ],
)
def test_other_columns_are_refused_with_what_is_there_and_what_is_needed(method: Method, needs: str) -> None:
    with pytest.raises(InputRefused, match=needs) as refused:
        used_columns(method, ["text", "label"], "training")
    assert "label, text" in str(refused.value)
    assert refused.value.pointer == "/data"
