"""Workers on the nodes of a Ray cluster. Ray places them; tokens travel over a connection of our own.

`host.py` and `inbox.py` run on a node, everything else in the front process. Nothing here imports Ray before
`cluster.join`.
"""

from __future__ import annotations

from .placed_engine import PlacedEngine

__all__ = ["PlacedEngine"]
