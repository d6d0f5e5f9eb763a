"""The group `server`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from ..errors import UserInputError
from .checks import at_least, one_of, positive, within
from .origins import browser_origin
from .texts import FilePath, Name


@dataclass(frozen=True)
class LimitsConfig:
    """Limits for one client, which is an API key or, without keys, an address.

    Attributes:
        requests_per_minute: rate limit, a token bucket that refills steadily; null is no limit.
        burst: size of the bucket, requests that may come at once after a quiet time; null is a tenth of a minute's.
        concurrent: requests of a client that run or wait at the same time; null is no limit.
        request_timeout_s: longest duration of a request, its streamed answer included; null is no limit.
        head_bytes: size limit of the request line and headers.
        head_timeout_s: time from the first byte (or the connection) to the end of the headers.
        body_timeout_s: time from the end of the headers to the end of the body.
        write_timeout_s: longest time that a client may leave a full buffer unread.
        connections: connections of all clients at the same time.
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
        url: mode=chat talks to this running server instead of loading the model, "http://127.0.0.1:8000".
        autoload: load a model when a request names it.
        max_models: most models loaded at the same time.
        max_memory_mb: memory limit of all models that are loaded on this machine, in MB of 10^6 bytes.
        idle_timeout_s: unload a model after this time without a request; null keeps it.
        pin: models that are never unloaded to make room for others.
        split: versions that share the requests for the first model of the start, by number or alias, each with its
            share: {champion: 90, candidate: 10}. Only ratios count.
        background: return when the server is ready, and leave it running.
        max_body_mb: size limit of a request body.
        max_sessions: native conversations kept; the least recently used one is dropped first.
        session_timeout_s: drop a conversation, or a response, after this time without use.
        session_messages: most messages of a conversation, answers included.
        max_responses: responses kept for the Responses API; the key that has most loses its least recently used one.
        responses_mb: memory limit of their JSON, in MB of 10^6 bytes.
        keys_file: hashed API keys, made by mode=keys; null is api-keys.json if that exists.
        allow_without_keys: accept clients of other machines although there are no keys.
        allowed_hosts: further names under which the server is reached, `name` or `name:port`; "*" is any.
        cors_origins: web pages that may use the server, e.g. "https://app.example.com"; "*" is any. Of an address
            only scheme, host and port count.
        certfile, keyfile: PEM files; with them the server speaks HTTPS.
        keepalive_s: a stream that was silent for so long sends a comment, so that proxies keep it; null sends none.
        drain_timeout_s: time for running requests after the signal to stop.
        access_log: "plain", "json" or "off"; access.log in the run's folder.
        verbose: show requests, loads and unloads in the terminal, or in server.log in the background.
        access_log_mb: start a new file at this size, and keep five old ones.
        tracking_interval_s: time between two summaries to MLflow; one more is sent at the end.
        ui: the web page at /ui, if its extra is installed.
        tracing: also send traces of single requests to MLflow: what they were, and where their time went.
        tracing_per_minute: most requests that are traced in a minute.
        tracing_content: include prompts and answers in the traces.
    """

    url: Name | None = None
    host: Name = "127.0.0.1"
    port: int = 8000
    autoload: bool = True
    max_models: int = 5
    max_memory_mb: float = 8192.0
    idle_timeout_s: float | None = None
    pin: list[Name] = field(default_factory=list)
    split: dict[str, float] = field(default_factory=dict)
    background: bool = False
    max_body_mb: float = 10.0
    max_sessions: int = 256
    session_timeout_s: float = 3600.0
    session_messages: int = 200
    max_responses: int = 1000
    responses_mb: float = 64.0
    keys_file: FilePath | None = None
    allow_without_keys: bool = False
    allowed_hosts: list[Name] = field(default_factory=list)
    cors_origins: list[Name] = field(default_factory=list)
    certfile: FilePath | None = None
    keyfile: FilePath | None = None
    keepalive_s: float | None = 15.0
    drain_timeout_s: float = 30.0
    access_log: str = "plain"
    access_log_mb: float = 10.0
    verbose: bool = False
    tracking_interval_s: float = 600.0
    ui: bool = True
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
        for name in ("max_models", "max_sessions", "session_messages", "max_responses"):
            at_least(f"server.{name}", getattr(self, name), 1)
        for name in (
            "max_memory_mb",
            "idle_timeout_s",
            "max_body_mb",
            "keepalive_s",
            "session_timeout_s",
            "responses_mb",
            "access_log_mb",
            "tracking_interval_s",
            "tracing_per_minute",
        ):
            positive(f"server.{name}", getattr(self, name))
        for version, share in self.split.items():
            within(f"server.split.{version}", share, 0)
        if self.split and not any(self.split.values()):
            raise UserInputError("all shares of server.split are 0", hint="give one version more")
        for origin in self.cors_origins:
            browser_origin(origin)
        if self.tracing_content and not self.tracing:
            raise UserInputError(
                "server.tracing_content is set without server.tracing", hint="set server.tracing=true too"
            )
