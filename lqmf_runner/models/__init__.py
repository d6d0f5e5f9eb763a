"""Models on this machine: what they are, where they are, and making quantized ones."""

from .found import FoundModel
from .inspect import inspect_model
from .version import content_version

__all__ = ["FoundModel", "content_version", "inspect_model"]
