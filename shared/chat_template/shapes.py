"""What a chat template writes around the texts of a conversation, found by rendering it with marks in their place.

With the frame of a conversation known, its text is put together from pieces, so that it stays known which piece is the
template's and which is the user's: a text that looks like the template's own words is still a text.
"""

from collections.abc import Sequence

import msgspec

from shared.chat_template.conversation import Message, Role
from shared.chat_template.rendering import ChatTemplateError, render

MARK = "\U0010fffd"
"""A private-use character that no text should hold; rows whose texts do are refused (see `holds_mark`)."""

_PADDING = "\t \t"


class Slot(msgspec.Struct, frozen=True):
    """How the template takes a message's text: it may strip white space on either side."""

    keeps_left: bool
    keeps_right: bool

    def filled(self, text: str) -> str:
        """What the template writes for `text`."""
        text = text if self.keeps_left else text.lstrip()
        return text if self.keeps_right else text.rstrip()


class Shape(msgspec.Struct, frozen=True):
    """Frame of a prompt and its reply: `frame[0] text[0] frame[1] … frame[n]`, then `lead`, the reply, and EOS.

    `lead` is white space that the template puts before a reply and that a prompt does not end with: the model writes it.
    """

    frame: tuple[str, ...]
    slots: tuple[Slot, ...]
    lead: str
    reply: Slot


def holds_mark(text: str) -> bool:
    """Whether a text holds the character that marks the template's own control tokens here."""
    return MARK in text


def shape_of(template: str, roles: Sequence[Role], bos: str | None, eos: str) -> Shape:
    """The frame that `template` gives a prompt of these roles (the last is `user`) and the reply to it.

    Raises ChatTemplateError, with what was seen and why it is wrong, for a template that refuses the roles, leaves out a
    message, whose prompt is no beginning of the whole conversation, or that does not end a reply with EOS.
    """
    count = len(roles)
    prompt = render(_marked(roles), bos=bos, eos=eos, template=template, add_generation_prompt=True)
    whole = render(_marked([*roles, "assistant"]), bos=bos, eos=eos, template=template)
    frame, slots = _cut(prompt, roles)
    whole_frame, whole_slots = _cut(whole, [*roles, "assistant"])
    before_reply, after_reply = whole_frame[count], whole_frame[count + 1]
    if (whole_frame[:count], whole_slots[:count]) != (frame[:count], slots) or not before_reply.startswith(
        frame[count]
    ):
        raise ChatTemplateError(
            "the prompt alone is no beginning of prompt and reply together, so what the model is to write cannot be told "
            f"from what it reads (the prompt ends with {_end(prompt)!r}, before the reply stands {before_reply!r})"
        )
    lead = before_reply[len(frame[count]) :]
    if lead.strip():
        raise ChatTemplateError(
            f"before a reply it writes {lead!r}, which a prompt does not end with: a trained reply would begin elsewhere "
            "than a served one"
        )
    if not after_reply.startswith(eos):
        raise ChatTemplateError(
            f"it ends a reply with {after_reply!r}, but the tokenizer's end-of-sequence token is {eos!r}: the model would "
            "never learn where to stop"
        )
    return Shape(frame=frame, slots=slots, lead=lead, reply=whole_slots[count])


def prompt_pieces(shape: Shape, texts: Sequence[str]) -> list[tuple[str, bool]]:
    """The pieces of a prompt in order, each with whether it is the template's own."""
    pieces = [(shape.frame[0], True)]
    for slot, text, frame in zip(shape.slots, texts, shape.frame[1:], strict=True):
        pieces += [(slot.filled(text), False), (frame, True)]
    return pieces


def _marked(roles: Sequence[Role]) -> list[Message]:
    return [{"role": role, "content": f"{_PADDING}{MARK}{number}{MARK}{_PADDING}"} for number, role in enumerate(roles)]


def _cut(rendered: str, roles: Sequence[Role]) -> tuple[tuple[str, ...], tuple[Slot, ...]]:
    frame: list[str] = []
    slots: list[Slot] = []
    rest = rendered
    for number, role in enumerate(roles):
        before, mark, after = rest.partition(f"{MARK}{number}{MARK}")
        if not mark or MARK in before or f"{MARK}{number}{MARK}" in after:
            raise ChatTemplateError(
                f"the text of the {role} message is not shown exactly once and in its place (seen: {_shown(rendered)!r})"
            )
        keeps_left, keeps_right = before.endswith(_PADDING), after.startswith(_PADDING)
        slots.append(Slot(keeps_left=keeps_left, keeps_right=keeps_right))
        frame.append(before.removesuffix(_PADDING) if keeps_left else before)
        rest = after.removeprefix(_PADDING) if keeps_right else after
    return (*frame, rest), tuple(slots)


def _shown(rendered: str) -> str:
    return rendered.replace(_PADDING, "").replace(MARK, "|")[:200]


def _end(rendered: str) -> str:
    return _shown(rendered[-60:])
