"""Faults of a store or a disk that pass: a step that meets one is tried again for long, and not given up after three times."""

import errno
from collections.abc import Iterator

import msgspec

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FULL_WORDS = "No space left on device"
"""In errors of libraries that keep no number."""

_PASSING_CODES = frozenset(
    {"BadDigest", "IncompleteBody", "RequestTimeout", "SlowDown", "XAmzContentSHA256Mismatch", "XMinioStorageFull"}
)
"""What S3 servers refuse with a 4xx though the same request may go well later: bytes that changed or stopped under way."""


class PassingFault(msgspec.Struct, frozen=True):
    """`code` is stable, for programs; `message` says what was seen and what to do."""

    code: str
    message: str


def passing_fault(error: BaseException) -> PassingFault | None:
    """What passes, of an error that came out of a step; None for any other."""
    answered = _store_answered(error)
    if answered is not None:
        return PassingFault("store_unavailable", f"the object store answered {answered}: look at its disks and its log")
    if disk_is_full(error):
        return PassingFault("disk_full", "the disk of the worker is full: make room in MULTIFACET_WORK_FOLDER")
    return None


def disk_is_full(error: BaseException) -> bool:
    """Whether it says that a file system here has no room, itself or by what it came from: what a store answers is about its
    own."""
    return any(
        (isinstance(one, OSError) and one.errno in _FULL) or (_FULL_WORDS in str(one) and not _of_store(one))
        for one in _with_causes(error)
    )


def _of_store(error: BaseException) -> bool:
    return type(error).__module__.startswith("minio.")


def _store_answered(error: BaseException) -> str | None:
    from minio.error import InvalidResponseError, S3Error, ServerError  # who has no S3 store never needs it

    match error:
        case S3Error() if error.response.status >= 500 or error.code in _PASSING_CODES:
            return f"{error.response.status} {error.code}"
        case ServerError():
            return str(error.status_code)
        case InvalidResponseError():
            return "what no S3 server answers"
    return None


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
