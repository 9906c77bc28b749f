"""Refuses a training that would go on without too many of its rows."""

from services.training.data.counts import TOO_LONG, SplitCounts
from shared.domain.errors import InputRefused
from shared.domain.training import TrainParameters


def refuse_losses(parameters: TrainParameters, counts: SplitCounts) -> None:
    """Raise InputRefused where more than `maximum_lost_share` of the drawn rows are lost, or all of them: how many for
    what reason, which rows, and the length that would keep them."""
    lost = sum(counts.lost.values())
    too_long = sum(counts.lost.get(reason, 0) for reason in TOO_LONG)
    if counts.kept and counts.lost_share <= parameters.maximum_lost_share:
        return
    length_is_at_fault = too_long * 2 >= lost
    pointer = "/maximum_length" if length_is_at_fault else "/data"
    whole = counts.lengths.get("whole")
    lengths = (
        f"The longest row has {whole.maximum:,} tokens, and 99 of 100 have at most {whole.p99:,}: set maximum_length to "
        f"{whole.maximum} to keep all of them"
        + (f", or to {whole.p99} for 99 of 100" if parameters.maximum_length < whole.p99 < whole.maximum else "")
        if whole is not None and too_long
        else ""
    )
    if too_long == counts.drawn:
        raise InputRefused(
            f"all {counts.drawn:,} training rows are longer than maximum_length {parameters.maximum_length}, so nothing is left "
            f"to train on. {lengths}",
            pointer,
        )
    by_reason = "; ".join(
        f"{reason} {number:,} (row{'s' if number > 1 else ''} {', '.join(map(str, counts.lost_rows[reason]))}"
        f"{', …' if number > len(counts.lost_rows[reason]) else ''})"
        for reason, number in counts.lost.items()
    )
    limit = (
        "and none is left to train on"
        if not counts.kept
        else f"above maximum_lost_share {parameters.maximum_lost_share:g}"
    )
    advice = lengths or "Correct or leave out these rows"
    otherwise = ", or raise maximum_lost_share to go on without them" if counts.kept else ""
    raise InputRefused(
        f"{lost:,} of {counts.drawn:,} training rows ({counts.lost_share:.1%}) cannot be trained on, {limit}: {by_reason}. "
        f"{advice}{otherwise}",
        pointer,
    )
