"""Puts the chat template on a tokenizer, or keeps the model's own where that has a system role.

Which one: a model without a template, and one of the Mistral and Llama-2 kind (`[INST]`, no role for system messages), gets
ours. Any other template must show a system message, begin a whole conversation with the prompt that is served, and end a
reply with EOS; otherwise the model is refused.
"""

from typing import Any

from shared.chat_template import (
    ChatTemplateError,
    ConversationTokenizer,
    Family,
    Role,
    conversation,
    render,
    template_text,
)
from shared.chat_template.shapes import shape_of
from shared.domain.errors import InputRefused

_ROLES: tuple[tuple[Role, ...], ...] = (("system", "user"), ("user",))
_POINTER = "/base"


def install(tokenizer: Any) -> Family:
    """Set `tokenizer.chat_template` (saved with the tokenizer as chat_template.jinja) and say whose it is.

    Raises InputRefused for a tokenizer without EOS or fast backend, and for a template of the model's own that cannot be
    trained on: what was seen, why it is wrong, and what to set.
    """
    if not tokenizer.eos_token:
        raise InputRefused(
            "the tokenizer names no end-of-sequence token, so a model could not learn where a reply ends; set eos_token in "
            "its tokenizer_config.json",
            _POINTER,
        )
    own = _own_template(tokenizer)
    if own is None or own == template_text() or ("[INST]" in own and "[SYSTEM_PROMPT]" not in own):
        tokenizer.chat_template = template_text()
        family = Family.MISTRAL
    else:
        tokenizer.chat_template = own
        family = Family.SYSTEM_ROLE
    for roles in _ROLES:
        try:
            shape_of(tokenizer.chat_template, roles, tokenizer.bos_token, tokenizer.eos_token)
        except ChatTemplateError as error:
            raise _refused(tokenizer.chat_template, str(error)) from error
    _check_tokens(tokenizer)
    return family


def _own_template(tokenizer: Any) -> str | None:
    template = tokenizer.chat_template
    if isinstance(template, dict):
        if "default" not in template:
            raise InputRefused(
                f"the tokenizer has several chat templates ({', '.join(sorted(template))}) and none is called default; keep "
                "the one that is served as chat_template.jinja",
                _POINTER,
            )
        template = template["default"]
    return template or None


def _check_tokens(tokenizer: Any) -> None:
    """The tokens made here must be those of the rendered conversation, for texts that hold no control token."""
    for system in ("Answer in two lines,\nbriefly.", None):
        messages = conversation(system, "What is  2 + 2?\n\n- one\n- two")
        reply = "Four.\n\nThat is all: été, 数."
        [[encoded]] = ConversationTokenizer(tokenizer).encode([(messages, [reply])])
        rendered = render(
            [*messages, {"role": "assistant", "content": reply}],
            bos=tokenizer.bos_token,
            eos=tokenizer.eos_token,
            template=tokenizer.chat_template,
        )
        whole = tokenizer(rendered, add_special_tokens=False)["input_ids"]
        tokens = encoded.prompt_ids + encoded.reply_ids
        if encoded.fault is not None or list(whole[: len(tokens)]) != tokens:
            raise _refused(
                tokenizer.chat_template,
                "the tokens of the prompt are no beginning of the tokens of prompt and reply"
                if encoded.fault is not None
                else "the conversation has other tokens when it is rendered as a whole",
            )
        if tokenizer.bos_token_id is not None and encoded.prompt_ids.count(tokenizer.bos_token_id) > 1:
            raise _refused(
                tokenizer.chat_template, f"a prompt begins with {tokenizer.bos_token!r} more than once (double BOS)"
            )


def _refused(template: str, seen: str) -> InputRefused:
    marks = (
        "" if "{% generation %}" in template or "{%- generation %}" in template else " without marks around the reply"
    )
    return InputRefused(
        f"the model's own chat template{marks} cannot be trained on: {seen}. Use a model whose template has a system role and "
        "ends a prompt where the reply begins, correct chat_template.jinja, or remove it together with the chat_template "
        "in tokenizer_config.json: then the Mistral template is put in its place",
        _POINTER,
    )
