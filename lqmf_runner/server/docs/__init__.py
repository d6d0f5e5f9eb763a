"""The documentation of the API: /openapi.json, and /docs, a page that works offline and can send its examples."""

from .page import docs_routes

__all__ = ["docs_routes"]
