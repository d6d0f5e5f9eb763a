"""The edge to Hydra: schemas in, composed configuration out as the frozen objects of `config/`.

This is the only module that sees a DictConfig. Hydra parses the command line, composes `conf/`, makes the run's
folder and launches the jobs of a sweep; here each job is validated and handed to its mode.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import hydra
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write

from .. import __version__
from .. import config as schemas
from ..config import GraderConfig, RunConfig
from ..errors import UserInputError
from ..modes import MODES
from ..redaction import redact, redact_files, redact_written, secrets_in
from ..runs.context import RunContext
from ..runs.folder import make_run_folder, remove_refused_job, remove_refused_sweep
from .cli import INTERRUPTED, PROGRAM, conf_dir, discard_output, report
from .config_errors import SCHEMA_SUFFIX, translate, unknown, unknown_key

log = logging.getLogger(__name__)

CONFIG_NAME = "config"
GROUP_SCHEMAS: dict[str, dict[str, type]] = {
    "model": {"model": schemas.ModelConfig},
    "backend": {
        "auto": schemas.BackendConfig,
        "gguf": schemas.GgufBackend,
        "transformers": schemas.TransformersBackend,
        "bnb": schemas.BnbBackend,
        "gptq": schemas.GptqBackend,
        "openai": schemas.OpenAIBackend,
    },
    "prompts": {"prompts": schemas.PromptsConfig},
    "mode": {
        "benchmark": schemas.BenchmarkMode,
        "batch": schemas.BatchMode,
        "compare": schemas.CompareMode,
        "quantize": schemas.QuantizeMode,
        "models": schemas.ModelsMode,
        "history": schemas.HistoryMode,
        "chat": schemas.ChatMode,
        "serve": schemas.ServeMode,
        "status": schemas.StatusMode,
        "stop": schemas.StopMode,
        "keys": schemas.KeysMode,
    },
    "server": {"server": schemas.ServerConfig},
    "tracking": {"mlflow": schemas.TrackingConfig},
}
NO_MODEL = ("~model", "model.name=''")
MODES_WITHOUT_MODEL = ("serve", "models", "status", "stop", "keys")
MODES_OF_SEVERAL = ("serve", "benchmark", "compare")


class JobError(Exception):
    """A job of a sweep has failed and said so."""


def run(args: Sequence[str]) -> int:
    """Compose and run what the arguments ask for.

    Raises:
        HydraException, OmegaConfBaseException, UserInputError: the configuration is wrong.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then lets its exceptions through, and `cli` words them
    register_schemas()
    sys.argv = [sys.argv[0], *_without_model(args)]
    BeforeRun.sweep = None
    exit_code = 0
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=CONFIG_NAME)(run_job)()
    except JobError:
        exit_code = 1
        if BeforeRun.sweep is not None and remove_refused_sweep(Path(BeforeRun.sweep.hydra.sweep.dir)):
            return UserInputError.exit_code
    except KeyboardInterrupt:
        if BeforeRun.sweep is None:
            raise
        _say_how_to_go_on(Path(BeforeRun.sweep.hydra.sweep.dir))
        return INTERRUPTED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    except Exception:
        if BeforeRun.sweep is not None:
            remove_refused_sweep(Path(BeforeRun.sweep.hydra.sweep.dir))
        raise
    if BeforeRun.sweep is not None:
        _conclude(BeforeRun.sweep)
    return exit_code


def _without_model(args: Sequence[str]) -> list[str]:
    """Hydra has no null for a config group: `model=null` takes the group out and leaves a model without a name."""
    return [word for arg in args for word in (NO_MODEL if arg == "model=null" else (arg,))]


def register_schemas() -> None:
    """Register the schemas under `<name>_schema` in their groups."""
    store = ConfigStore.instance()
    store.store(name=f"run{SCHEMA_SUFFIX}", node=_schema_node(RunConfig))
    for group, schema_types in GROUP_SCHEMAS.items():
        for name, schema in schema_types.items():
            store.store(group=group, name=f"{name}{SCHEMA_SUFFIX}", node=_schema_node(schema))


def run_job(composed: DictConfig) -> None:
    """Run one job: the task function that Hydra calls once, or once for each job of a sweep.

    Raises:
        SystemExit: a single run has failed.
        JobError: a job of a sweep has failed; Hydra goes on with the others and raises it at the end.
    """
    settings = HydraConfig.get()
    sweep = settings.mode == RunMode.MULTIRUN
    try:
        exit_code = _run_mode(composed, settings, sweep)
    except BrokenPipeError:  # modes print last: it has done what it was to do
        discard_output()
        exit_code = 0
    except Exception as error:
        exit_code = report(error, job=_job_name(settings) if sweep else "")
    if exit_code == INTERRUPTED and sweep:
        raise KeyboardInterrupt  # Hydra would go on with the next job
    if exit_code:
        raise JobError if sweep else SystemExit(exit_code)


def _job_name(settings: HydraConf) -> str:
    """ "job 1 (model=b)": with what the sweep varies, as the rest is on the command line."""
    varied = [override for override in settings.overrides.task if override not in sys.argv]
    return f"job {settings.job.num} ({', '.join(varied)})"


class BeforeRun(Callback):
    """Refuses a wrong configuration before a folder is made, and gives every run a folder of its own.

    Hydra calls it with the composed configuration; `SystemExit` is the way out, as it only logs exceptions. Hydra makes
    the object, so that `sweep`, the configuration of the sweep that has begun, is the class's.
    """

    sweep: ClassVar[DictConfig | None] = None

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the configuration, then claim `hydra.run.dir`."""
        try:
            _check(to_run_config(config))
            _claim_folder(config, "run")
        except Exception as error:
            raise SystemExit(report(error)) from None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim `hydra.sweep.dir`. The jobs are checked one by one."""
        try:
            _claim_folder(config, "sweep")
            BeforeRun.sweep = config
        except Exception as error:
            raise SystemExit(report(error)) from None


def to_run_config(composed: DictConfig) -> RunConfig:
    """The frozen objects of a composed configuration, interpolations resolved.

    Raises:
        OmegaConfBaseException: a value is missing or cannot be resolved.
        UserInputError: a value is out of range, or a key is unknown.
    """
    names = [f.name for f in fields(RunConfig)]
    for key in composed:
        if key not in names and key != "hydra":
            raise unknown_key(str(key), names)
    return RunConfig(**{name: _plain(composed, name) for name in names})


def _run_mode(composed: DictConfig, settings: HydraConf, sweep: bool) -> int:
    run_dir = Path(settings.runtime.output_dir)
    try:
        config = to_run_config(composed)
        _check(config)
    except Exception:
        if sweep:
            remove_refused_job(run_dir)
        raise
    resolved = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(resolved, dict)
    secrets = secrets_in(resolved)
    sweep_dir = Path(settings.sweep.dir).absolute() if sweep else None
    redact_files(run_dir, sweep_dir, secrets)
    resolved = redact(resolved, secrets)
    if sweep and _is_complete(run_dir, resolved):
        print(f"job {settings.job.num} is complete already: {run_dir}", file=sys.stderr)
        return 0
    compose = _Composer(settings)
    context = RunContext(
        config=config,
        models=tuple(map(compose, config.models)) or (config,),
        resolved=resolved,
        run_dir=run_dir,
        command=redact_written(f"{PROGRAM} {shlex.join(sys.argv[1:])}", secrets),
        sweep_dir=sweep_dir,
        model_names=_model_names(),
        compose=compose,
        reference=compose.other(config.reference) if config.reference else None,
        judge=compose.grader(config.judge),
        embedder=compose.grader(config.similarity),
    )
    log.info("lqmf-runner %s: %s", __version__, context.command)
    return MODES[config.mode.name].load()(context)


def _is_complete(job: Path, resolved: dict[str, Any]) -> bool:
    from ..runs.sweep import is_complete

    return is_complete(job, resolved)


class _Composer:
    """Composes the configuration of a model by name, under the overrides of the run."""

    def __init__(self, settings: HydraConf) -> None:
        self._config_name = settings.job.config_name
        self._overrides = [
            override
            for override in settings.overrides.task
            if override.partition("=")[0].lstrip("+") not in ("model", "models") and override not in NO_MODEL
        ]

    def __call__(self, name: str, *more: str) -> RunConfig:
        return self._compose(name, [*self._overrides, *more])

    def grader(self, grader: GraderConfig) -> RunConfig | None:
        """The configuration of a model that grades answers, if there is one.

        Raises:
            UserInputError: an address is given for a model that runs here.
        """
        if grader.model is None:
            return None
        config = self.other(grader.model)
        if not grader.overrides:
            return config
        if not isinstance(config.backend, schemas.OpenAIBackend):
            raise UserInputError(
                f"'{grader.model}' runs here: a base_url or remote_model does not go with it",
                hint="name an endpoint, e.g. judge.model=openai",
            )
        return self.other(grader.model, *grader.overrides)

    def other(self, name: str, *more: str) -> RunConfig:
        """A reference or a grader keeps its own backend: of what is set for the models it takes what every backend
        knows."""
        common = {f"backend.{f.name}" for f in fields(schemas.BackendConfig)} - {"backend.format"}
        return self._compose(
            name,
            [
                override
                for override in self._overrides
                if not (key := override.partition("=")[0].lstrip("+")).startswith(("backend", "model."))
                or key in common
            ]
            + list(more),
        )

    def _compose(self, name: str, own: Sequence[str]) -> RunConfig:
        overrides = [*own, f"model={name}", "models=[]"]
        try:
            return to_run_config(hydra.compose(self._config_name, overrides=overrides))
        except Exception as error:
            raise translate(error) or error from error


def _model_names() -> tuple[str, ...]:
    options = GlobalHydra.instance().config_loader().get_group_options("model")
    return tuple(sorted(name for name in options if not name.endswith(SCHEMA_SUFFIX)))


def _check(config: RunConfig) -> None:
    """Names that are not there, and what does not go together."""
    if config.mode.name not in MODES:
        raise unknown("mode", config.mode.name, MODES)
    if not config.model.name and not config.models and config.mode.name not in MODES_WITHOUT_MODEL:
        raise UserInputError(f"mode={config.mode.name} needs a model", hint="choose one with model=")
    _check_several(config)
    valid = _model_names()
    others = (config.reference, config.judge.model, config.similarity.model)
    for name in (*config.models, *filter(None, others)):
        if name not in valid:
            raise unknown("model", name, valid)
    config.mode.check(config)
    MODES[config.mode.name].check(config)


def _check_several(config: RunConfig) -> None:
    """`models=[a,b]` is for modes that take several, each of them once."""
    names = ",".join(config.models)
    if config.models and config.mode.name not in MODES_OF_SEVERAL:
        raise UserInputError(
            f"mode={config.mode.name} does not take models=[{names}]",
            hint=f"choose one with model=, or each in a run of its own: -m model={names}",
        )
    if len(set(config.models)) < len(config.models):
        raise UserInputError(f"models=[{names}] names one twice", hint="give each once")


def _conclude(sweep: DictConfig) -> None:
    """The table and the verdict over all jobs."""
    from ..runs.sweep import conclude

    command = f"{PROGRAM} {shlex.join(sys.argv[1:])}"
    secrets = secrets_in(OmegaConf.to_container(sweep))  # the overrides among it have any endpoint's login
    conclude(
        Path(sweep.hydra.sweep.dir),
        redact_written(command, secrets),
        _plain(sweep, "verdict"),
        _plain(sweep, "tracking"),
    )


def _say_how_to_go_on(sweep: Path) -> None:
    """No table is drawn of a sweep that was interrupted: who presses Ctrl-C wants the terminal back."""
    print(
        f"interrupted; repeat the command with hydra.sweep.dir={sweep} to go on, "
        f"or mode=compare 'runs=[{sweep}]' to compare what is there",
        file=sys.stderr,
    )


def _claim_folder(config: DictConfig, kind: str) -> None:
    """Make the run's folder. Where another run has taken the name, `-2`, `-3`, ... is appended."""
    node = config.hydra[kind]
    wanted = str(node.dir)
    if wanted == "." or any(f"hydra.{kind}.dir" in override for override in config.hydra.overrides.hydra):
        return
    folder = make_run_folder(wanted)
    with read_write(config), open_dict(config):
        node.dir = str(folder)


def _schema_node(schema: type) -> DictConfig:
    """The schema as a node that can be overridden: a frozen dataclass would make it read-only all the way down."""
    node = OmegaConf.structured(schema)

    def thaw(value: Any) -> None:
        if isinstance(value, (DictConfig, ListConfig)):
            OmegaConf.set_readonly(value, None)
            if isinstance(value, DictConfig) and not value._is_missing() and not value._is_none():
                for key in value:
                    thaw(value._get_node(key))

    thaw(node)
    assert isinstance(node, DictConfig)
    return node


def _plain(composed: DictConfig, name: str) -> Any:
    value = composed[name]
    return OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
