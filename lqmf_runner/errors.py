"""The exception tree. The number is the HTTP status; `*` marks exit code 2 (a user's mistake), the others exit with 1.

    LqmfError                        500
    ├── UserInputError *             400   configuration, arguments
    │   ├── InvalidRequestError *    400   a generation request
    │   │   ├── FieldError *         400   a field of a body, named
    │   │   └── ContextLengthError * 400   longer than the context
    │   ├── UnauthorizedError *      401   no key, or a wrong one
    │   ├── ForbiddenError *         403   the key, or the page, may not do this
    │   ├── ModelNotFoundError *     404   no such model, or no weights
    │   ├── TooLargeError *          413   the body
    │   └── EndpointSetupError *     502   an endpoint rejects our key or does not know the model
    ├── ModelUnusableError *         400   damaged, unknown or unsafe files
    ├── ConflictError                409   conflicts with the present state
    ├── QueueFullError               429   the admission queue
    │   └── TooManyRequestsError     429   the client's own limit
    ├── MissingDependencyError *     501   a package; the hint has the pip line
    ├── UnavailableError             503   loading, draining, waiting
    ├── RequestTimeoutError          504   longer than the server allows
    ├── DoesNotFitError              507   memory, or a node's disk
    │   └── NoRoomOnNodesError       507   no node of the cluster has what a worker needs
    ├── EngineError                  500   the engine failed at a request
    │   ├── EngineLostError          503   its process died
    │   └── RemoteEngineError        502   an endpoint failed
    │       ├── EndpointLostError    502   it cannot be reached, or broke off
    │       └── EndpointUnavailableError 503
    ├── QuantizationError            500
    └── TrackingError                500   MLflow; the run's folder is complete

Each error has a message (what happened) and a `hint` (what to do next). `app/terminal.py` maps it to the terminal,
the server maps it to a response, and `engine/protocol.py` carries it across the process border. Messages name models
and numbers. They name paths of the host only if the user typed them.
"""

from __future__ import annotations

INTERRUPTED = 130
"""Exit code of a run that Ctrl-C or a signal ended: shells use 128 and the number of the signal."""


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
    """The server requires an API key, and the request has none or a wrong one."""

    status = 401
    headers = {"www-authenticate": "Bearer"}  # noqa: RUF012 (a constant)


class ForbiddenError(UserInputError):
    """The request's key, or the page it comes from, may not do this."""

    status = 403


class TooLargeError(UserInputError):
    """The request's body is larger than the server accepts."""

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
    """The client has more requests, or sends them faster, than this server lets it."""


class EndpointBusyError(QueueFullError):
    """A remote endpoint answered 429: it is full, or its limit for our key is reached."""


class RequestTimeoutError(LqmfError):
    """The request took longer than the server allows."""

    status = 504


class ConflictError(LqmfError):
    """The request conflicts with the present state (a busy model, a model that is not loaded)."""

    status = 409


class UnavailableError(LqmfError):
    """Temporarily unavailable: loading, draining, or waiting before a retry."""

    status = 503
    retry_after_s = 1.0


class EngineError(LqmfError):
    """The engine failed while it worked on a request."""


class EngineLostError(EngineError):
    """The worker process died (killed, out of memory, crashed); its requests failed with it."""

    status = 503
    retry_after_s = 1.0


class DoesNotFitError(LqmfError):
    """The model does not fit into the available memory or disk space."""

    status = 507


class NoRoomOnNodesError(DoesNotFitError):
    """No node of the cluster has enough free resources for a worker; one with its labels would, if it were idle."""


class RemoteEngineError(EngineError):
    """A remote endpoint answered with an error or not at all."""

    status = 502


class EndpointLostError(RemoteEngineError):
    """A remote endpoint cannot be reached, or closed the connection in the middle of an answer."""


class EndpointUnavailableError(RemoteEngineError):
    """A remote endpoint is temporarily unavailable."""

    status = 503
    retry_after_s = 1.0


class EndpointSetupError(UserInputError):
    """A remote endpoint rejects our key or lacks the model. The operator of this program must correct it."""

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
