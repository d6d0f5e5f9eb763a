"""Typed schemas of the configuration: what a user may set, with defaults and units.

`conf/` mirrors these classes. They are frozen and do no I/O. `app/compose.py` makes them of what Hydra composes; all
other code sees plain objects. Validation that needs more than a type lives in `__post_init__`.
"""

from __future__ import annotations

from .benchmark import BenchmarkMode, CompareMode, ObjectivesConfig, RampConfig, SyntheticConfig
from .checks import MISSING
from .console import ConsoleConfig
from .model import BackendConfig, ModelConfig
from .modes import (
    BatchMode,
    ChatMode,
    ConsoleMode,
    HistoryMode,
    KeysMode,
    ModeConfig,
    ModelsMode,
    PullMode,
    QuantizeMode,
    ServeMode,
    StatusMode,
    StopMode,
    VersionsMode,
)
from .placement import PlacementConfig, RayConfig
from .prompts import Prompt, PromptsConfig, SamplingConfig
from .quality import FidelityConfig, GraderConfig, JudgeConfig, SimilarityConfig
from .run import RunConfig, TrackingConfig
from .server import LimitsConfig, ServerConfig
from .verdict import VerdictConfig, WeightsConfig

__all__ = [
    "MISSING",
    "BackendConfig",
    "BatchMode",
    "BenchmarkMode",
    "ChatMode",
    "CompareMode",
    "ConsoleConfig",
    "ConsoleMode",
    "FidelityConfig",
    "GraderConfig",
    "HistoryMode",
    "JudgeConfig",
    "KeysMode",
    "LimitsConfig",
    "ModeConfig",
    "ModelConfig",
    "ModelsMode",
    "ObjectivesConfig",
    "PlacementConfig",
    "Prompt",
    "PromptsConfig",
    "PullMode",
    "QuantizeMode",
    "RampConfig",
    "RayConfig",
    "RunConfig",
    "SamplingConfig",
    "ServeMode",
    "ServerConfig",
    "SimilarityConfig",
    "StatusMode",
    "StopMode",
    "SyntheticConfig",
    "TrackingConfig",
    "VerdictConfig",
    "VersionsMode",
    "WeightsConfig",
]
