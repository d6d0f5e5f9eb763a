"""mode=batch: answer every line of a file."""

from ..runs.batch.job import run

__all__ = ["run"]
