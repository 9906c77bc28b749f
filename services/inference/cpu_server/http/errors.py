"""What is answered instead of a result: `{"error": …, "error_type": …}` with a status, on every route."""

from typing import Self

import msgspec


class ErrorBody(msgspec.Struct, frozen=True):
    error: str
    error_type: str


class Refusal(Exception):
    """A request that is not answered, or no further.

    `error_type` is TGI's where TGI has one; `failure` is the label `err` of the metric `tgi_request_failure`.
    """

    def __init__(self, message: str, *, status: int, error_type: str, failure: str) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.error_type = error_type
        self.failure = failure

    @property
    def body(self) -> ErrorBody:
        return ErrorBody(self.message, self.error_type)

    @classmethod
    def invalid(cls, message: str, *, status: int = 422, error_type: str = "validation") -> Self:
        """The request asks for what is not done here: said with what was seen, why, and what to set."""
        return cls(f"Input validation error: {message}", status=status, error_type=error_type, failure="validation")

    @classmethod
    def template(cls, message: str) -> Self:
        """The model's chat template does not take these messages."""
        return cls(f"Template error: {message}", status=422, error_type="template_error", failure="template")

    @classmethod
    def tools(cls, message: str) -> Self:
        return cls(f"Tool error: {message}", status=422, error_type="tool_error", failure="validation")

    @classmethod
    def overloaded(cls, message: str) -> Self:
        return cls(f"Model is overloaded: {message}", status=429, error_type="overloaded", failure="overloaded")

    @classmethod
    def generation(cls, message: str) -> Self:
        return cls(
            f"Request failed during generation: {message}", status=424, error_type="generation", failure="generation"
        )

    @classmethod
    def incomplete(cls, message: str) -> Self:
        """The answer ends before its end."""
        return cls(
            f"Incomplete generation: {message}", status=500, error_type="incomplete_generation", failure="incomplete"
        )

    @classmethod
    def unavailable(cls, message: str) -> Self:
        return cls(message, status=503, error_type="healthcheck", failure="unavailable")
