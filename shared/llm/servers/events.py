"""Server-sent events as language models send them: the data of each event, out of chunks cut anywhere."""

from shared.llm.servers.errors import GenerationFailed

LONGEST_LINE = 4 * 1024 * 1024
"""Bytes. The last event of a TGI stream repeats the whole answer; beyond this a server is out of order."""


class EventParser:
    """Feed it chunks; it gives the data of the events that are complete.

    Lines end with LF or CRLF; comments and fields other than `data` are passed over (WHATWG HTML, "Server-sent events",
    event stream interpretation). One event's data lines are joined by LF.
    """

    def __init__(self, longest_line: int = LONGEST_LINE) -> None:
        self._longest_line = longest_line
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that end in this chunk. Raises GenerationFailed for one longer than allowed."""
        lines = chunk.split(b"\n")
        if len(lines) > 1 and self._rest:
            self._rest.append(lines[0])
            lines[0] = b"".join(self._rest)
            self._rest = []
            self._rest_bytes = 0
        last = lines.pop()
        if last:
            self._rest.append(last)
            self._rest_bytes += len(last)
            if self._rest_bytes > self._longest_line:
                raise self._too_long()
        return self._events(lines)

    def end(self) -> list[bytes]:
        """The events left at the end of the stream, be their last line or empty line missing."""
        lines = [b"".join(self._rest), b""]
        self._rest = []
        return self._events(lines)

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events = []
        data = self._data
        for line in lines:
            if line[:5] == b"data:":
                data.append(line[6:] if line[5:6] == b" " else line[5:])
                self._data_bytes += len(line)
                if self._data_bytes > self._longest_line:
                    raise self._too_long()
            elif data and (not line or line == b"\r"):
                event = data[0] if len(data) == 1 else b"\n".join(part.removesuffix(b"\r") for part in data)
                events.append(event.removesuffix(b"\r"))
                data.clear()
                self._data_bytes = 0
        return events

    def _too_long(self) -> GenerationFailed:
        return GenerationFailed(
            f"the server sent an event of more than {self._longest_line} bytes in a stream, which no answer has"
        )
