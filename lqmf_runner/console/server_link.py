"""The running server, as the console talks to it."""

from __future__ import annotations

import os
from typing import Any

import httpx

from ..errors import LqmfError, UserInputError
from ..server.process.registry import ServerRecord, running_servers

KEY = "LQMF_API_KEY"
"""The variable that holds a key of the server."""

_KEYS = "LQMF_API_KEYS"  # of a server that was started here


def find_server(port: int) -> ServerRecord | None:
    """The server on this port, or the only one there is.

    Raises:
        UserInputError: there are several, none of them on this port.
    """
    running = running_servers()
    chosen = [record for record in running if record.port == port] or running
    if len(chosen) > 1:
        ports = ", ".join(str(record.port) for record in running)
        raise UserInputError(
            f"several servers run, none on port {port}",
            hint=f"start the console with server.port=, one of: {ports}",
        )
    return chosen[0] if chosen else None


def server_key() -> str:
    """The key for the server: LQMF_API_KEY, or the first one of LQMF_API_KEYS; empty without either."""
    keys = os.environ.get(_KEYS, "").split(",")[0].partition(":")[0]
    return (os.environ.get(KEY) or keys).strip()


class ServerLink:
    """Asks a server."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self.url = url
        key = server_key()
        # The server is on this machine, in the records of this user: its certificate need not be known.
        self._client = httpx.Client(
            base_url=url,
            timeout=timeout_s,
            verify=False,
            trust_env=False,
            headers={"authorization": f"Bearer {key}"} if key else {},
        )

    def ask(self, method: str, path: str) -> Any:
        """The server's answer, as plain values.

        Raises:
            LqmfError: it refuses, or does not answer.
        """
        try:
            answer = self._client.request(method, path)
            body = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise LqmfError(
                f"the server on {self.url} does not answer: {type(error).__name__}",
                hint='say "status" to see it',
            ) from error
        if answer.is_error:
            raise _refused(body, answer.status_code)
        return body

    def loaded(self) -> list[str]:
        """The names of the models that it has loaded."""
        return [str(model["name"]) for model in self.ask("GET", "/models")["models"]]


def _refused(body: Any, status: int) -> LqmfError:
    fields = body if isinstance(body, dict) else {}
    hint = str(fields.get("hint") or "")
    if status == 401:
        hint = f"set {KEY} to a key of the server"
    return LqmfError(str(fields.get("detail") or f"the server answers {status}"), hint=hint)
