"""What a machine check says of a text."""

from typing import Literal

import msgspec

OutcomeName = Literal["pass", "fail", "not_applicable"]


class CheckOutcome(msgspec.Struct, frozen=True):
    """`outcome` is three-valued: a check that cannot be measured on a text neither passes nor fails. `detail` says what
    was seen, without quoting more of the text than the phrase that a check names."""

    outcome: OutcomeName
    detail: str


def passed_if(condition: bool, detail: str) -> CheckOutcome:
    return CheckOutcome("pass" if condition else "fail", detail)


def not_applicable(detail: str) -> CheckOutcome:
    return CheckOutcome("not_applicable", detail)
