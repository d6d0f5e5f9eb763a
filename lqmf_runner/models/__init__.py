"""Models on this machine: recognition, lookup, and quantization."""

from .discover import discover
from .found import FoundModel
from .inspect import inspect_model
from .locate import locate
from .version import content_version

__all__ = ["FoundModel", "content_version", "discover", "inspect_model", "locate"]
