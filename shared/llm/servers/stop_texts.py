"""Stop texts of servers that send them along: TGI and ours end an answer with the stop text, our protocol without it."""

from collections.abc import Sequence


def without_stop(text: str, stops: Sequence[str]) -> str:
    """A text that was ended by one of `stops`, without it. A stop that is the end of another counts by its longest form."""
    longest = max((len(stop) for stop in stops if text.endswith(stop)), default=0)
    return text[: len(text) - longest]


class StopHold:
    """Holds back the end of a streamed text for as long as it may turn out to be (the beginning of) a stop text."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> str:
        """What may be shown now that `text` came."""
        if not self._stops:
            return text
        whole = self._held + text
        keep = 0
        for stop in self._stops:
            for length in range(min(len(stop), len(whole)), keep, -1):
                if whole.endswith(stop[:length]):
                    keep = length
                    break
        self._held = whole[len(whole) - keep :]
        return whole[: len(whole) - keep]

    def end(self, by_stop: bool) -> str:
        """What was held, at the end of the answer; without the stop text where that ended it."""
        held, self._held = self._held, ""
        return without_stop(held, self._stops) if by_stop else held
