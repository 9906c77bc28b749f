"""What all routes share: error answers in the schema, cursors."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from services.api.problems import MEDIA_TYPE, ProblemBody
from services.api.schemas import Listing

Row = TypeVar("Row")
View = TypeVar("View")

_DESCRIPTIONS = {
    400: "The request is malformed.",
    401: "No valid key was sent.",
    403: "The key lacks a scope, or the request comes from another site.",
    404: "There is no such thing in this project.",
    406: "The answer cannot be had in the form asked for.",
    409: "The state of the thing does not allow this.",
    410: "The stored bytes are gone.",
    413: "The body is too large.",
    415: "The body is of a media type that is not taken here.",
    416: "The range lies outside the content.",
    422: "The request was understood and refused; `errors` says where and why.",
    500: "The server failed.",
    502: "A language model that was asked gave no usable answer.",
    503: "A part that the server needs does not answer.",
    504: "A language model that was asked did not answer in time.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses of a route: these problems and those of every route."""
    content = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemBody.__name__}"}}}
    return {
        status: {"description": _DESCRIPTIONS[status], "content": content}
        for status in sorted({400, 401, 403, 422, 500, *statuses})
    }


def listing(
    rows: Sequence[Row], limit: int, view: Callable[[Row], View], cursor: Callable[[Row], str]
) -> Listing[View]:
    """A page from `limit + 1` rows: the extra one tells that there are more."""
    shown = rows[:limit]
    return Listing(items=[view(row) for row in shown], next=cursor(shown[-1]) if len(rows) > limit else None)
