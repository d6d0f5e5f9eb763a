"""mode=benchmark: speed, memory and answer quality of one or several models, one after the other."""

from ..runs.benchmark import check, run

__all__ = ["check", "run"]
