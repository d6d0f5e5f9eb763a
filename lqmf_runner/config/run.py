"""One run: all groups together."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import UserInputError
from .checks import within
from .console import ConsoleConfig
from .fidelity import FidelityConfig
from .judge import JudgeConfig, SimilarityConfig
from .model import BackendConfig, ModelConfig
from .modes import ModeConfig
from .prompts import PromptsConfig
from .server import ServerConfig
from .texts import FilePath, Name
from .verdict import VerdictConfig

_VARIABLES = {"uri": "MLFLOW_TRACKING_URI", "experiment": "MLFLOW_EXPERIMENT_NAME"}


@dataclass(frozen=True)
class TrackingConfig:
    """MLflow. `enabled: false` leaves only the run's folder.

    Attributes:
        system_metrics_s: seconds between two samples of what the machine is doing while models are measured; null takes
            none.
    """

    enabled: bool = True
    uri: Name = "sqlite:///mlruns/mlflow.db"
    artifacts: FilePath = "mlruns/artifacts"
    experiment: Name = "lqmf"
    system_metrics_s: float | None = 5.0

    def __post_init__(self) -> None:
        for name in ("uri", "experiment"):
            if not getattr(self, name):
                raise UserInputError(
                    f"tracking.{name} is empty",
                    hint=f"give one, or unset {_VARIABLES[name]} in the environment",
                )
        if self.system_metrics_s is not None:
            within("tracking.system_metrics_s", self.system_metrics_s, 0.1)


@dataclass(frozen=True)
class RunConfig:
    """One run: mode(model in a format, prompts). `reference` names the model that fidelity is measured against."""

    model: ModelConfig = field(default_factory=ModelConfig)
    backend: BackendConfig = field(default_factory=BackendConfig)
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    mode: ModeConfig = field(default_factory=ModeConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    fidelity: FidelityConfig = field(default_factory=FidelityConfig)
    similarity: SimilarityConfig = field(default_factory=SimilarityConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    console: ConsoleConfig = field(default_factory=ConsoleConfig)
    models: list[Name] = field(default_factory=list)
    runs: list[FilePath] = field(default_factory=list)
    reference: Name | None = None
    models_dir: FilePath = "quantized-models"
    output_dir: FilePath = "outputs"
