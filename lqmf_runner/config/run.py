"""One run: all groups together."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import UserInputError
from ..types import Placement
from .checks import within
from .console import ConsoleConfig
from .model import BackendConfig, ModelConfig
from .modes import ModeConfig
from .placement import PlacementConfig, RayConfig, to_placement
from .prompts import PromptsConfig
from .quality import FidelityConfig, JudgeConfig, SimilarityConfig
from .server import ServerConfig
from .texts import FilePath, Name
from .verdict import VerdictConfig

MODELS_DIR = "quantized-models"
_VARIABLES = {"uri": "MLFLOW_TRACKING_URI", "experiment": "MLFLOW_EXPERIMENT_NAME"}


@dataclass(frozen=True)
class TrackingConfig:
    """MLflow. `enabled: false` leaves only the run's folder.

    Attributes:
        uri: of an MLflow server (http://host:5000), a database (postgresql://user@host/name) or a SQLite file.
        artifacts: folder of the artifacts where there is no server, or an address such as s3://bucket. It counts when
            the experiment is made.
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
        if self.uri.startswith("postgres://"):
            raise UserInputError(
                "tracking.uri begins with postgres://",
                hint="MLflow reads postgresql://, the name of the same thing",
            )
        if self.system_metrics_s is not None:
            within("tracking.system_metrics_s", self.system_metrics_s, 0.1)


@dataclass(frozen=True)
class RunConfig:
    """One run: mode(model in a format, prompts).

    Attributes:
        model: the model: a configured one, one of `models_dir`, a path, or a hub id.
        prompts: a prompt set of `conf/prompts/`, or a file: text with one prompt a line, CSV or XLSX with a header,
            JSONL, or YAML.
        models: several models in one run, each as `model` takes it.
        runs: finished runs to compare, by their folders or MLflow ids.
        reference: name of the model that fidelity is measured against.
        models_dir: the folders of models, in the order in which a name is looked up; new ones are made in the first.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    backend: BackendConfig = field(default_factory=BackendConfig)
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    mode: ModeConfig = field(default_factory=ModeConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    placement: PlacementConfig = field(default_factory=PlacementConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    fidelity: FidelityConfig = field(default_factory=FidelityConfig)
    similarity: SimilarityConfig = field(default_factory=SimilarityConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    console: ConsoleConfig = field(default_factory=ConsoleConfig)
    models: list[Name] = field(default_factory=list)
    runs: list[FilePath] = field(default_factory=list)
    reference: Name | None = None
    models_dir: list[FilePath] = field(default_factory=lambda: [MODELS_DIR])
    output_dir: FilePath = "outputs"

    @property
    def placed(self) -> Placement:
        """Where the model's workers run, as a `ModelSpec` carries it."""
        return to_placement(self.placement, self.ray)
