"""Models on this machine: what they are, where they are, and making quantized ones."""

from .discover import discover
from .found import FoundModel
from .inspect import inspect_model
from .locate import locate
from .version import content_version

__all__ = ["FoundModel", "content_version", "discover", "inspect_model", "locate"]
