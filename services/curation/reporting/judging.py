"""What report and card say of the judge: its record with controls, in sentences."""

from collections.abc import Mapping
from typing import Any

_FAULTS = {
    "lenient": "The judge approves of what is not there: what it calls followed may not be, and answers got in that should not.",
    "length_biased": "The judge approves of what is not there the sooner the longer the answer: its verdicts favour length.",
    "unknown": "Too little is known of the judge to trust its verdicts: the answers that were kept hold too few controls.",
}


def judge_notes(record: Mapping[str, Any]) -> dict[str, str | None]:
    """`told`: the figures of a `JudgeRecord` as plain data; `fault`: what is wrong with the judge, None where it is reliable."""
    told = "No control is known of the answers that were kept."
    if record["controls"]:
        told = (
            f"Of {record['controls']:,} controls, wishes that an answer does not follow by construction, the judge called "
            f"{_share(record['missed'])} followed or partly so."
        )
        if record["longer_minus_shorter"]["estimate"] is not None:
            told += (
                f" Among the answers of more than {record['longer_from']:,.0f} words the share is larger by "
                f"{_share(record['longer_minus_shorter'], sign='+')}."
            )
    return {"told": told, "fault": _FAULTS.get(record["verdict"])}


def _share(interval: Mapping[str, Any], sign: str = "") -> str:
    """A share or a difference of shares, with its interval where there is one."""
    shown = f"{interval['estimate']:{sign}.1%}"
    if interval["low"] is None or interval["high"] is None:
        return shown
    return f"{shown} ({interval['level']:.0%} interval {interval['low']:{sign}.1%} to {interval['high']:{sign}.1%})"
