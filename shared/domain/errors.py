"""Errors that cross seams. Each says what was seen, why it is wrong and what to set."""


class MultifacetError(Exception):
    """Base of all errors that a person is meant to read. `code` is stable, for programs."""

    code = "error"


class InputRefused(MultifacetError):
    """What the user gave cannot be used; becomes a 422 at the edge and ends a step without retry inside a job.

    `pointer` is the JSON pointer of the offending value in the job spec, where there is one.
    """

    code = "input_refused"

    def __init__(self, message: str, pointer: str | None = None) -> None:
        super().__init__(message)
        self.pointer = pointer


class StepFailed(MultifacetError):
    """The step cannot succeed and must not be tried again. The job fails with `code` and this text."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class StepInterrupted(MultifacetError):
    """A step that stops itself was told to (SIGTERM) and has put away what it did: it goes on later, and uses up no retry."""

    code = "interrupted"


class StepDeferred(MultifacetError):
    """Not now: the step goes back to ready, not before `seconds` from now, and uses up no retry."""

    code = "deferred"

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds
