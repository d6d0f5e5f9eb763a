"""The exception tree.

Every error a user may see carries *what happened* (the message), *what to do next* (`hint`) and the HTTP status
it maps to. `cli.py` maps it to the terminal once, the server maps it to a response once, and `engine/protocol.py`
carries it across the process border. Messages name models and numbers, never paths of the host unless the user
typed them.
"""

from __future__ import annotations


class LqmfError(Exception):
    """Base of all errors that are reported to the user as one line and a hint.

    Args:
        retry_after_s: when it is worth trying again, where that is known better than of the class.
    """

    status: int = 500
    exit_code: int = 1
    retry_after_s: float | None = None

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s


class UserInputError(LqmfError):
    """The user's configuration or arguments are wrong (exit code 2)."""

    status = 400
    exit_code = 2


class InvalidRequestError(UserInputError):
    """A generation request is malformed, out of range, or longer than the context."""


class UnauthorizedError(UserInputError):
    """The server wants an API key, and the request has none or a wrong one."""

    status = 401
    headers = {"www-authenticate": "Bearer"}  # noqa: RUF012 (a constant)


class ForbiddenError(UserInputError):
    """The request's key, or the page it comes from, may not do this."""

    status = 403


class TooLargeError(UserInputError):
    """The request's body is larger than the server takes."""

    status = 413


class FieldError(InvalidRequestError):
    """A field of the request is wrong; `param` names it."""

    def __init__(self, message: str, *, param: str | None, hint: str = "", code: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.param = param
        self.code = code


class ContextLengthError(InvalidRequestError):
    """The prompt does not fit into the context."""


class ModelNotFoundError(UserInputError):
    """No such model, or its weights are missing and cannot be fetched."""

    status = 404


class ModelUnusableError(LqmfError):
    """The model's files are damaged, of an unknown format, or refused as unsafe."""

    status = 400
    exit_code = 2


class MissingDependencyError(LqmfError):
    """A package that this format needs is not installed; the hint has the exact pip line."""

    status = 501
    exit_code = 2


class QueueFullError(LqmfError):
    """The admission queue is full; try again later."""

    status = 429
    retry_after_s = 1.0


class TooManyRequestsError(QueueFullError):
    """The client has more requests, or sends them faster, than it may."""


class RequestTimeoutError(LqmfError):
    """The request took longer than the server allows."""

    status = 504


class ConflictError(LqmfError):
    """What is asked for does not go together with what is going on (a busy model, one that is not loaded)."""

    status = 409


class UnavailableError(LqmfError):
    """Not now: loading, draining, or waiting before another try."""

    status = 503
    retry_after_s = 1.0


class EngineError(LqmfError):
    """The engine failed while it worked on a request."""


class EngineLostError(EngineError):
    """The worker process died (killed, out of memory, crashed); its requests failed with it."""

    status = 503
    retry_after_s = 1.0


class DoesNotFitError(LqmfError):
    """The model does not fit into the memory there is."""

    status = 507


class RemoteEngineError(EngineError):
    """A remote endpoint answered with an error or not at all."""

    status = 502


class EndpointUnavailableError(RemoteEngineError):
    """A remote endpoint says: not now."""

    status = 503
    retry_after_s = 1.0


class EndpointSetupError(UserInputError):
    """A remote endpoint does not take our key, or has not the model: to be set right by whoever runs this program."""

    status = 502


class QuantizationError(LqmfError):
    """Quantizing failed, or the result did not pass its reload check."""


class TrackingError(LqmfError):
    """MLflow could not be reached or refused a call; the run's folder is complete all the same."""


def error_types() -> dict[str, type[LqmfError]]:
    """Name → class of every error in the tree, for rebuilding one on the other side of a process border."""
    found: dict[str, type[LqmfError]] = {}
    pending = [LqmfError]
    while pending:
        cls = pending.pop()
        found[cls.__name__] = cls
        pending.extend(cls.__subclasses__())
    return found
