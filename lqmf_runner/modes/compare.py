"""mode=compare: which of several models to run."""

from ..runs.compare import check, run

__all__ = ["check", "run"]
