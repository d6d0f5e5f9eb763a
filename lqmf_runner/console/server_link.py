"""The running server, as a client of its API."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import httpx

from ..errors import LqmfError, UserInputError
from ..server.process.registry import ServerRecord, running_servers
from ..tls import trust

KEY = "LQMF_API_KEY"
"""The variable that holds a key of the server."""

_KEYS = "LQMF_API_KEYS"  # of a server that was started here


def find_server(port: int) -> ServerRecord | None:
    """The server on this port, or the only one that runs.

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


def shown_key() -> str:
    """What a shell replaces by `server_key()`; empty without a key."""
    if os.environ.get(KEY, "").strip():
        return f"${KEY}"
    return f"${{{_KEYS}%%[:,]*}}" if server_key() else ""


class ServerLink:
    """Asks a server of this machine."""

    def __init__(self, server: ServerRecord, timeout_s: float) -> None:
        self.url = server.url
        key = server_key()
        self._client = httpx.Client(
            base_url=server.url,
            timeout=timeout_s,
            verify=trust(server.certfile),
            trust_env=False,
            headers={"authorization": f"Bearer {key}"} if key else {},
        )

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The server's answer, as plain values.

        Raises:
            LqmfError: it refuses, or does not answer.
        """
        try:
            answer = self._client.request(method, path, json=body)
            answered = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise LqmfError(
                f"the server on {self.url} does not answer: {type(error).__name__}",
                hint='say "status" to see it',
            ) from error
        if answer.is_error:
            raise _refused(answered, answer.status_code)
        return answered

    def loaded(self) -> list[str]:
        """The names of its loaded models."""
        return [str(model["name"]) for model in self.ask("GET", "/models")["models"]]

    def versioned(self) -> dict[str, dict[str, float]]:
        """The names that versions answer, each version with its share of the requests."""
        names: dict[str, dict[str, float]] = self.ask("GET", "/versions")["names"]
        return names

    def split(self) -> list[str]:
        """The names whose requests several versions share."""
        return [name for name, shares in self.versioned().items() if len(shares) > 1]


def _refused(body: Any, status: int) -> LqmfError:
    fields = body if isinstance(body, dict) else {}
    hint = str(fields.get("hint") or "")
    if status == 401:
        hint = f"set {KEY} to a key of the server"
    return LqmfError(str(fields.get("detail") or f"the server answers {status}"), hint=hint)
