"""The edge to Hydra, which parses the command line, composes `conf/` and launches the jobs of a sweep.

Here the schemas are registered, a run gets its folder, and each job is handed to its mode. DictConfig is seen in this
module and in `compose.py` only.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import hydra
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write

from .. import __version__
from ..config import RunConfig
from ..errors import INTERRUPTED, UserInputError
from ..modes import MODES
from ..redaction import redact, redact_files, secrets_in
from ..runs.context import RunContext
from ..runs.folder import make_run_folder, remove_refused_job, remove_refused_run, remove_refused_sweep
from . import PROGRAM, yaml_texts
from .arguments import typed_arguments, typed_items
from .choices.model import choose_model, default_models_dir
from .choices.prompts import choose_prompts, name_of_own_entries
from .compose import Prepared, plain, prepare
from .conf import conf_dir, conf_names
from .config_errors import SCHEMA_SUFFIX
from .schema import group_schemas
from .terminal import discard_output, report

log = logging.getLogger(__name__)

CONFIG_NAME = "config"
NO_FOLDER = "no_folder"  # conf/no_folder.yaml
_SWEEP_OPTIONS = {"-m", "--multirun"}
_LAUNCHER_LOGS = ("hydra._internal.core_plugins.basic_launcher", "hydra_plugins.hydra_joblib_launcher._core")


class JobError(Exception):
    """A job of a sweep has failed and said so; with the exit code that it has as a program."""

    def __init__(self, exit_code: int = 1) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def run(overrides: Sequence[str], options: Sequence[str] = ()) -> int:
    """Compose and run what the command line asks for.

    Args:
        overrides: `key=value`, as typed.
        options: Hydra's options, checked.

    Raises:
        HydraException, OmegaConfBaseException, UserInputError: the configuration is wrong.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its exceptions, and `terminal` words them
    register_schemas()
    folders, sweep = _own_folders(options), not _SWEEP_OPTIONS.isdisjoint(options)
    chosen = choose_model(overrides, conf_names("model", *folders), _models_dir(overrides))
    known, files = choose_prompts(chosen, conf_names("prompts", *folders), sweep=sweep)
    typed = typed_arguments(known, sweep=sweep)
    BeforeRun.typed = [*overrides, *options]
    BeforeRun.options = options
    BeforeRun.files = files
    BeforeRun.written = {**dict(zip(typed, chosen, strict=True)), **files}
    BeforeRun.sweep = None
    sys.argv = [sys.argv[0], *typed, *name_of_own_entries(typed), *options]
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


def _own_folders(options: Sequence[str]) -> list[str]:
    """The folders of `--config-dir`."""
    parts = [part for option in options for part in option.split("=", 1)]
    return [folder for name, folder in pairwise(parts) if name in ("-cd", "--config-dir")]


def _models_dir(overrides: Sequence[str]) -> list[str]:
    """Where models lie, as far as that is known before anything is composed."""
    given = [value for key, _, value in (o.partition("=") for o in overrides) if key == "models_dir"]
    return (typed_items(given[-1]) if given else []) or default_models_dir()


def register_schemas() -> None:
    """Register the schemas under `<name>_schema` in their groups, and how YAML files are read."""
    yaml_texts.install()
    store = ConfigStore.instance()
    store.store(name=f"run{SCHEMA_SUFFIX}", node=_schema_node(RunConfig))
    for group, schema_types in group_schemas().items():
        for name, schema in schema_types.items():
            node = _schema_node(schema)
            if group == "mode" and not MODES[name].leaves_folder:
                _include(node, f"/{NO_FOLDER}@_global_")
            store.store(group=group, name=f"{name}{SCHEMA_SUFFIX}", node=node)


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
    except BrokenPipeError:  # modes print last, so that the work is done
        discard_output()
        exit_code = 0
    except Exception as error:
        exit_code = report(error, job=_job_name(settings) if sweep else "")
        if isinstance(error, UserInputError):
            _leave_nothing(settings, sweep)
    if exit_code == INTERRUPTED and sweep:
        raise KeyboardInterrupt  # Hydra would go on with the next job
    if exit_code:
        raise JobError(exit_code) if sweep else SystemExit(exit_code)


def _leave_nothing(settings: HydraConf, sweep: bool) -> None:
    """Remove the folder that was made for what is refused. One that was there before, or has results, is kept."""
    run_dir = Path(settings.runtime.output_dir)
    if sweep:
        remove_refused_job(run_dir)
    elif BeforeRun.made is not None and run_dir == BeforeRun.made.absolute():
        remove_refused_run(run_dir)


def _job_name(settings: HydraConf) -> str:
    """ "job 1 (model=b)": the overrides that the sweep varies. The others are on the command line."""
    varied = [override for override in settings.overrides.task if override not in sys.argv]
    return f"job {settings.job.num} ({', '.join(varied)})"


class _SecretFilter(logging.Filter):
    """Takes secrets out of what a launcher logs: it lists the overrides of its jobs."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true; the record is changed."""
        record.msg, record.args = redact(record.getMessage(), BeforeRun.secrets), ()
        return True


class BeforeRun(Callback):
    """Refuses a wrong configuration before a folder is made, and gives every run a folder of its own.

    Hydra makes the object and calls it with the composed configuration. It logs the exceptions of a callback and goes
    on, except for `SystemExit`. The attributes belong to the class, because nobody else has the object.

    Attributes:
        prepared: the single run that is about to begin.
        made: the folder that was made for it, or for the sweep.
        sweep: the configuration of the sweep that has begun.
        typed: the arguments as the user has typed them; None in a process that a launcher has started.
        options: Hydra's options among them.
        written: the overrides as Hydra has got them, and as the user has typed them.
        files: those of them that are the name of a file's content, and the file that the user has typed.
        secrets: those of the sweep's configuration.
        sends: whether this process sends its runs to MLflow; our launchers do it for their jobs.
    """

    prepared: ClassVar[Prepared | None] = None
    made: ClassVar[Path | None] = None
    sweep: ClassVar[DictConfig | None] = None
    typed: ClassVar[Sequence[str] | None] = None
    options: ClassVar[Sequence[str]] = ()
    written: ClassVar[Mapping[str, str]] = {}
    files: ClassVar[Mapping[str, str]] = {}
    sends: ClassVar[bool] = True
    secrets: ClassVar[Sequence[str]] = ()

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Prepare the run, then claim `hydra.run.dir`."""
        try:
            BeforeRun.prepared = prepare(config, config.hydra)
            _claim_folder(config, "run")
        except Exception as error:
            raise SystemExit(report(error)) from None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim `hydra.sweep.dir`. The jobs are checked one by one."""
        try:
            _check_one_mode(config)
            _claim_folder(config, "sweep")
            BeforeRun.sweep = config
            BeforeRun.secrets = secrets_in(OmegaConf.to_container(config))
            for name in _LAUNCHER_LOGS:
                logging.getLogger(name).addFilter(_SecretFilter())
        except Exception as error:
            raise SystemExit(report(error)) from None

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Take secrets out of the overrides: Hydra prints those of a job that has failed."""
        secrets = secrets_in(OmegaConf.to_container(config))
        job_return.overrides = redact(list(job_return.overrides or ()), secrets)


def _check_one_mode(sweep: DictConfig) -> None:
    """Refuse a sweep over modes: its folder has the mode's name, and its jobs are compared."""
    if not OmegaConf.is_missing(sweep.mode, "name"):
        return
    for override in sweep.hydra.overrides.task:
        if override.startswith("mode="):
            raise UserInputError(f"{override} with -m is several modes", hint="run each mode by itself")
    raise UserInputError("no mode given", hint=f"add mode=, one of: {', '.join(sorted(MODES))}")


def _run_mode(composed: DictConfig, settings: HydraConf, sweep: bool) -> int:
    run_dir = Path(settings.runtime.output_dir)
    prepared = _prepare_job(composed, settings, run_dir) if sweep else BeforeRun.prepared
    assert prepared is not None
    resolved = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(resolved, dict)
    secrets = secrets_in(resolved)
    sweep_dir = Path(settings.sweep.dir).absolute() if sweep else None
    redact_files(run_dir, sweep_dir, secrets)
    resolved = redact(resolved, secrets)
    if sweep and _is_complete(run_dir, resolved):
        print(f"job {settings.job.num} is complete already: {run_dir}", file=sys.stderr)
        return 0
    context = RunContext(
        resolved=resolved,
        run_dir=run_dir,
        command=redact(_command(), secrets),
        arguments=tuple(BeforeRun.files.get(word, word) for word in sys.argv[1:]),
        sweep_dir=sweep_dir,
        config=prepared.config,
        models=prepared.models,
        plans=prepared.plans,
        reference=prepared.reference,
        judge=prepared.judge,
        embedder=prepared.embedder,
        model_names=prepared.model_names,
        compose=prepared.compose,
        sends=BeforeRun.sends,
    )
    log.info("lqmf-runner %s: %s", __version__, context.command)
    return prepared.mode.run(context)


def _prepare_job(composed: DictConfig, settings: HydraConf, run_dir: Path) -> Prepared:
    """Prepare a job of a sweep. Hydra has made its folder already, which is removed if the job is refused."""
    try:
        return prepare(composed, settings)
    except Exception:
        remove_refused_job(run_dir)
        raise


def _is_complete(job: Path, resolved: dict[str, Any]) -> bool:
    from ..runs.sweep import is_complete

    return is_complete(job, resolved)


def _conclude(sweep: DictConfig) -> None:
    """The table and the verdict over all jobs."""
    from ..runs.sweep import conclude

    command = _command()
    secrets = secrets_in(OmegaConf.to_container(sweep))  # the overrides among it have any endpoint's login
    conclude(
        Path(sweep.hydra.sweep.dir),
        redact(command, secrets),
        plain(sweep, "verdict"),
        plain(sweep, "tracking"),
    )


def job_words(overrides: Sequence[str]) -> list[str]:
    """The words of the command line that does one job of this sweep alone."""
    options = [option for option in BeforeRun.options if option not in _SWEEP_OPTIONS]
    return [*(BeforeRun.written.get(override, override) for override in overrides), *options]


def _command() -> str:
    typed = sys.argv[1:] if BeforeRun.typed is None else BeforeRun.typed
    return f"{PROGRAM} {shlex.join(typed)}"


def _say_how_to_go_on(sweep: Path) -> None:
    """Say how to go on with an interrupted sweep. No table is drawn: Ctrl-C gives the terminal back at once."""
    print(
        f"interrupted; repeat the command with {shlex.quote(f'hydra.sweep.dir={sweep}')} to continue, "
        f"or mode=compare {shlex.quote(f'runs=[{sweep}]')} to compare its complete jobs",
        file=sys.stderr,
    )


def _claim_folder(config: DictConfig, kind: str) -> None:
    """Make the run's folder. Where another run has taken the name, `-2`, `-3`, ... is appended."""
    node = config.hydra[kind]
    wanted = str(node.dir)
    if wanted == "." or any(f"hydra.{kind}.dir" in override for override in config.hydra.overrides.hydra):
        return
    folder = BeforeRun.made = make_run_folder(wanted)
    with read_write(config), open_dict(config):
        node.dir = str(folder)


def _include(node: DictConfig, config: str) -> None:
    """Give the schema a defaults list, as YAML files have: a file that includes the schema includes `config` too."""
    with open_dict(node):
        node["defaults"] = [config]


def _schema_node(schema: type) -> DictConfig:
    """The schema as a node that can be overridden: a frozen dataclass would make it read-only all the way down."""
    node = OmegaConf.structured(schema)

    def thaw(value: Any) -> None:
        if isinstance(value, (DictConfig, ListConfig)):
            OmegaConf.set_readonly(value, None)
            if OmegaConf.get_type(value) is dict:
                OmegaConf.set_struct(value, False)  # its keys are the user's
            if isinstance(value, DictConfig) and not value._is_missing() and not value._is_none():
                for key in value:
                    thaw(value._get_node(key))

    thaw(node)
    assert isinstance(node, DictConfig)
    return node
