"""What stands between the socket and the application: the order of the middlewares, and what they share."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from litestar import Litestar, Response, get
from litestar.types import ControllerRouterHandler

from ...config import ServerConfig
from ..pool.pool import ModelPool
from ..watch.access_log import AccessLog, AccessLogFile
from ..watch.metrics import Metrics
from ..watch.prometheus import CONTENT_TYPE, exposition
from .asgi import App
from .keys import KeyRing
from .limits import ClientQuota, InFlight, Limits
from .security import HostPolicy, Security

ACCESS_LOG_NAME = "access.log"


class Guard:
    """The guards of one server.

    Args:
        port: that the server is bound to, which the configuration may have left open.
        run_dir: where the access log goes; None: nowhere.
    """

    def __init__(
        self, config: ServerConfig, keys: KeyRing, pool: ModelPool, *, port: int, run_dir: Path | None = None
    ) -> None:
        self.in_flight = InFlight()
        self.metrics = Metrics(lambda: pool.models)
        self._config = config
        self._keys = keys
        self._pool = pool
        self._port = port
        self._file: AccessLogFile | None = None
        if run_dir is not None and config.access_log != "off":
            self._file = AccessLogFile(
                run_dir / ACCESS_LOG_NAME,
                as_json=config.access_log == "json",
                max_bytes=int(config.access_log_mb * 1e6),
            )

    def wrap(self, app: App) -> App:
        """The application behind all guards. The id comes first, so that a refusal has one and is logged as well."""
        config = self._config
        limited = Limits(
            app,
            in_flight=self.in_flight,
            quota=ClientQuota(config.limits),
            timeout_s=config.limits.request_timeout_s,
            max_body_bytes=int(config.max_body_mb * 1e6),
        )
        secured = Security(
            limited,
            keys=self._keys,
            hosts=HostPolicy(config.host, self._port, config.allowed_hosts),
            cors_origins=tuple(config.cors_origins),
        )
        return AccessLog(secured, self._write)

    @property
    def routes(self) -> list[ControllerRouterHandler]:
        """GET /metrics and /stats."""
        metrics, pool = self.metrics, self._pool

        @get("/metrics", tags=["Status"], media_type="text/plain")
        async def prometheus_metrics() -> Response[str]:
            """What the server has done, for Prometheus."""
            await pool.refresh_memory()
            return Response(exposition(metrics), media_type=CONTENT_TYPE)

        @get("/stats", tags=["Status"])
        async def stats() -> dict[str, Any]:
            """What the server has done, for people. Seconds, tokens, and MB of 10^6 bytes."""
            await pool.refresh_memory()
            return metrics.stats()

        return [prometheus_metrics, stats]

    @asynccontextmanager
    async def lifespan(self, app: Litestar) -> AsyncGenerator[None, None]:
        """Closes the access log after the last request."""
        try:
            yield
        finally:
            if self._file is not None:
                self._file.close()

    def _write(self, entry: dict[str, Any]) -> None:
        self.metrics.count_response(entry["method"], entry["status"])
        if self._file is not None:
            self._file.write(entry)
