"""What can go wrong with a model server: the same errors whatever the server is."""

from shared.llm.protocol import LanguageModelError


class ModelServerError(LanguageModelError):
    """Base of all. `status` is what the server answered, None where it did not. `passing`: the same call may go well later."""

    code = "model_server_error"
    passing = False

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        """Seconds that the server asked to wait."""


class InvalidRequest(ModelServerError):
    """The server refuses the request for what it asks (400, 404, 413, 422), or its kind cannot do that."""

    code = "invalid_request"


class PromptTooLong(InvalidRequest):
    """The prompt, or prompt and answer together, are longer than the server takes."""

    code = "prompt_too_long"

    def __init__(self, message: str, *, status: int | None = None, by_tokens: int | None = None) -> None:
        super().__init__(message, status=status)
        self.by_tokens = by_tokens
        """How many tokens too many, where it is known."""


class Unauthorized(ModelServerError):
    """The server does not take our key (401, 403): the operator's to mend."""

    code = "unauthorized"


class GenerationFailed(ModelServerError):
    """The server tried and failed (424, 500)."""

    code = "generation_failed"
    passing = True


class Overloaded(ModelServerError):
    """The server has too many requests (429)."""

    code = "overloaded"
    passing = True


class GenerationIncomplete(ModelServerError):
    """The answer ended before its end: the connection broke, or the server says so."""

    code = "generation_incomplete"
    passing = True


class ServerUnavailable(ModelServerError):
    """Nobody answers, or the server is not ready (502, 503)."""

    code = "server_unavailable"
    passing = True


class ServerTimedOut(ModelServerError):
    """No answer, or no further piece of one, within the time allowed."""

    code = "server_timed_out"
    passing = True
