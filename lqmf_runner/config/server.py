"""The group `server`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from ..errors import UserInputError
from .checks import at_least, one_of, positive


@dataclass(frozen=True)
class LimitsConfig:
    """What one client may ask of the server, and how long it may take over it. A client is a key, or an address.

    Attributes:
        requests_per_minute: refilled steadily; null is no limit.
        burst: requests that may come at once after a quiet time; null is a tenth of a minute's.
        concurrent: requests of a client that run or wait at the same time; null is no limit.
        request_timeout_s: the longest a request may take, its streamed answer included; null is no limit.
        head_bytes: request line and headers.
        head_timeout_s: from the first byte (or the connection) to the end of the headers.
        body_timeout_s: from the end of the headers to the end of the body.
        write_timeout_s: how long a client may leave a full buffer unread.
        connections: most connections at the same time.
    """

    requests_per_minute: float | None = None
    burst: int | None = None
    concurrent: int | None = None
    request_timeout_s: float | None = 600.0
    head_bytes: int = 65536
    head_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    write_timeout_s: float = 30.0
    connections: int = 1024

    def __post_init__(self) -> None:
        for f in fields(self):
            positive(f"server.limits.{f.name}", getattr(self, f.name))


@dataclass(frozen=True)
class ServerConfig:
    """The REST server.

    Attributes:
        autoload: load a model when a request names it.
        max_models: most models loaded at the same time.
        max_memory_mb: most memory of all loaded models together, in MB of 10^6 bytes.
        idle_timeout_s: unload a model that had no request for so long; null keeps it.
        pin: models that are never unloaded to make room for others.
        background: return once the server is ready and leave it running.
        max_body_mb: larger request bodies are refused.
        max_sessions: native conversations kept; the one longest unused goes first.
        session_timeout_s: forget a conversation that was not used for so long.
        session_messages: most messages of a conversation, answers included.
        keys_file: hashed API keys, made by mode=keys; null is api-keys.json where that exists.
        allow_without_keys: serve the network, not this machine alone, although there are no keys.
        allowed_hosts: more names under which the server is reached, `name` or `name:port`; "*" is any.
        cors_origins: web pages that may use the server, e.g. "https://app.example.com"; "*" is any.
        certfile, keyfile: PEM files; with them the server speaks HTTPS.
        drain_timeout_s: how long requests may go on after the signal to stop.
        access_log: "plain", "json" or "off"; access.log in the run's folder.
        access_log_mb: start a new file at this size, and keep five old ones.
        tracking_interval_s: send a summary to MLflow so often; one more goes at the end.
        tracing: send a trace of single requests to MLflow as well: what they were, and where their time went.
        tracing_per_minute: at most so many requests are traced.
        tracing_content: their prompts and answers are in the traces too.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    autoload: bool = True
    max_models: int = 5
    max_memory_mb: float = 8192.0
    idle_timeout_s: float | None = None
    pin: list[str] = field(default_factory=list)
    background: bool = False
    max_body_mb: float = 10.0
    max_sessions: int = 256
    session_timeout_s: float = 3600.0
    session_messages: int = 200
    keys_file: str | None = None
    allow_without_keys: bool = False
    allowed_hosts: list[str] = field(default_factory=list)
    cors_origins: list[str] = field(default_factory=list)
    certfile: str | None = None
    keyfile: str | None = None
    drain_timeout_s: float = 30.0
    access_log: str = "plain"
    access_log_mb: float = 10.0
    tracking_interval_s: float = 600.0
    tracing: bool = False
    tracing_per_minute: float = 30.0
    tracing_content: bool = False
    limits: LimitsConfig = field(default_factory=LimitsConfig)

    def __post_init__(self) -> None:
        one_of("server.access_log", self.access_log, ("plain", "json", "off"))
        if not 0 <= self.port <= 65535:
            raise UserInputError(
                f"server.port={self.port} is not a port", hint="choose 1 to 65535, or 0 for any free one"
            )
        for name in ("max_models", "max_sessions", "session_messages"):
            at_least(f"server.{name}", getattr(self, name), 1)
        for name in (
            "max_memory_mb",
            "idle_timeout_s",
            "max_body_mb",
            "session_timeout_s",
            "access_log_mb",
            "tracking_interval_s",
            "tracing_per_minute",
        ):
            positive(f"server.{name}", getattr(self, name))
        if self.tracing_content and not self.tracing:
            raise UserInputError(
                "server.tracing_content is set without server.tracing", hint="set server.tracing=true too"
            )
