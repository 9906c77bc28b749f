"""Parts of stored objects over HTTP: one range of bytes per request (RFC 9110, section 14)."""

import re
from collections.abc import AsyncIterator

from services.api.problems import Problem
from shared.artifacts.protocol import ArtifactStore

_CHUNK_BYTES = 1 << 20
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """[start, end) of a range; None for a header that says something else, which is then ignored. Problem 416 outside."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if first == "":
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return None
    if start >= size or start >= end:
        raise Problem(
            416,
            "range_not_satisfiable",
            f"the range {header!r} lies outside the {size} bytes of this artifact",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end


async def stream_range(store: ArtifactStore, key: str, start: int, end: int) -> AsyncIterator[bytes]:
    """The bytes [start, end) of an object, in pieces."""
    while start < end:
        chunk = await store.get_bytes(key, start, min(_CHUNK_BYTES, end - start))
        if not chunk:
            return
        start += len(chunk)
        yield chunk
