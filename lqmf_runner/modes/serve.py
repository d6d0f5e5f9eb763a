"""mode=serve: serve models over HTTP."""

from ..server.launch import run

__all__ = ["run"]
