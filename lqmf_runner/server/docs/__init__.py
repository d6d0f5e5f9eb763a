"""GET /docs: the API documentation as one page that needs nothing from elsewhere, and sends its own examples."""

from .page import docs_routes

__all__ = ["docs_routes"]
