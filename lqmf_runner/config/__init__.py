"""Typed schemas of the configuration: what a user may set, with defaults and units.

`conf/` mirrors these classes. They are frozen and do no I/O. `app/compose.py` makes them of what Hydra composes; all
other code sees plain objects. Validation that needs more than a type lives in `__post_init__`.
"""

from __future__ import annotations

from .benchmark import BenchmarkMode, CompareMode, ObjectivesConfig, RampConfig, SyntheticConfig
from .checks import MISSING
from .console import ConsoleConfig
from .fidelity import FidelityConfig
from .judge import GraderConfig, JudgeConfig, SimilarityConfig
from .model import BackendConfig, ModelConfig
from .modes import (
    BatchMode,
    ChatMode,
    ConsoleMode,
    HistoryMode,
    KeysMode,
    ModeConfig,
    ModelsMode,
    QuantizeMode,
    ServeMode,
    StatusMode,
    StopMode,
)
from .prompts import Prompt, PromptsConfig, SamplingConfig
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
    "Prompt",
    "PromptsConfig",
    "QuantizeMode",
    "RampConfig",
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
    "WeightsConfig",
]
