"""From what Hydra composes to the frozen objects of `config/`, checked: of the run, and of other models by name."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from ..config import MISSING, BackendConfig, GraderConfig, RunConfig, TrackingConfig
from ..config.run import MODELS_DIR
from ..errors import LqmfError, UserInputError
from ..formats import check_backend, is_remote
from ..modes import MODES, Mode
from ..runs.locate import require_model
from ..tracking import check_driver
from .choices.model import NO_MODEL, fill_models_dir, model_overrides, name_by_place
from .config_errors import SCHEMA_SUFFIX, missing, translate, unknown, unknown_key
from .schema import Place, place_of

if TYPE_CHECKING:
    from ..models.registered import WeightsVersion

_CHOICE = (
    *("model", "models", "model.name", "model.path", "model.hub_id", "model.file"),
    *("model.version", "model.digest"),
)
"""What chooses the run's own model, and no other one."""


@dataclass(frozen=True)
class Prepared:
    """What a run will do: all configurations that it needs, composed and checked, and its plans.

    The fields are those of `runs.context.RunContext`.
    """

    config: RunConfig
    models: tuple[RunConfig, ...]
    plans: tuple[object, ...]
    reference: RunConfig | None
    judge: RunConfig | None
    embedder: RunConfig | None
    model_names: tuple[str, ...]
    compose: Composer

    @property
    def mode(self) -> Mode:
        """The mode to run."""
        return MODES[self.config.mode.name]


def prepare(composed: DictConfig, settings: HydraConf) -> Prepared:
    """Compose, check and plan a run. Nothing is made or loaded; models and versions are looked up.

    Args:
        settings: Hydra's own settings, the group `hydra`.

    Raises:
        OmegaConfBaseException: a value is missing or cannot be resolved.
        UserInputError: something is wrong, in this configuration or in that of another model of the run.
    """
    config = to_run_config(composed)
    mode = _check(config)
    compose = Composer(settings, config.models_dir, config.tracking)
    if config.server.url is None:  # else that server knows which files a version means
        config = compose.resolved(config)
    models: list[RunConfig] = []
    for name in config.models:
        with _naming(name):
            models.append(compose(name))
    _check_differ(config.models, models)
    models = models or [config]
    plans: list[object] = []
    if mode.plan is not None:
        for model in models:
            with _naming(model.model.name if config.models else ""):
                plans.append(mode.plan(model))
    prepared = Prepared(
        config=config,
        models=tuple(models),
        plans=tuple(plans),
        reference=compose.other(config.reference) if config.reference else None,
        judge=compose.grader(config.judge),
        embedder=compose.grader(config.similarity),
        model_names=model_names(),
        compose=compose,
    )
    if mode.runs_models is not None and mode.runs_models(config):
        _require_models(prepared)
    return prepared


def _require_models(prepared: Prepared) -> None:
    """Refuse a model that cannot be there, before another one is measured for minutes."""
    config, several = prepared.config, bool(prepared.config.models)
    reference = prepared.reference if config.fidelity.enabled else None
    for model in (*prepared.models, reference, prepared.judge, prepared.embedder):
        if model is not None and model.model.name:
            with _naming(model.model.name if several or model not in prepared.models else ""):
                require_model(model)


def _check_differ(typed: Sequence[str], models: Sequence[RunConfig]) -> None:
    """Refuse two names for one version: an alias, and the number that it is on."""
    seen: dict[str, str] = {}
    for name, model in zip(typed, models, strict=True):
        if model.model.digest is not None and seen.setdefault(model.model.name, name) != name:
            raise UserInputError(
                f"{seen[model.model.name]} and {name} are both {model.model.name}", hint="give each once"
            )


@contextmanager
def _naming(model: str) -> Iterator[None]:
    """Name the model in an error that is about one of several."""
    try:
        yield
    except LqmfError as error:
        if model and model not in error.message:
            error.message = f"model {model}: {error.message}"
        raise


def to_run_config(composed: DictConfig) -> RunConfig:
    """The frozen objects of a composed configuration, interpolations resolved.

    A model without a name gets that of its place.

    Raises:
        OmegaConfBaseException: a value is missing or cannot be resolved.
        UserInputError: a value is out of range, or a key is unknown.
    """
    names = [f.name for f in fields(RunConfig)]
    for key in composed:
        if key not in names and key != "hydra":
            raise unknown_key(str(key), names)
    name_by_place(composed)
    fill_models_dir(composed)
    config = RunConfig(**{name: plain(composed, name) for name in names})
    check_backend(config.backend)
    return config


class Composer:
    """Composes the configurations of other models by name, under the overrides of the run.

    Calling it gives one of the run's own models, to which all overrides apply. `other` gives a reference or a grader.

    Raises:
        LqmfError: the configuration is wrong.
    """

    def __init__(
        self,
        settings: HydraConf,
        models_dir: Sequence[str] = (MODELS_DIR,),
        tracking: TrackingConfig | None = None,
    ) -> None:
        self._tracking = tracking or TrackingConfig()
        self._config_name = settings.job.config_name
        self._models_dir = models_dir
        self._drafts: dict[str, str] = {}
        self._overrides = [
            override
            for override in _raw(settings.overrides.task)
            if _key(override) not in _CHOICE and override not in NO_MODEL
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
        if not is_remote(config.backend.format):
            raise UserInputError(
                f"'{grader.model}' runs here: a base_url or remote_model does not go with it",
                hint="name an endpoint, e.g. judge.model=openai",
            )
        return self.other(grader.model, *grader.overrides)

    def other(self, name: str, *more: str) -> RunConfig:
        """The configuration of a reference or a grader.

        It keeps its own model and backend. Of the run's overrides of `backend` it takes those that every backend has.
        """
        common = {f"backend.{f.name}" for f in fields(BackendConfig)} - {
            "backend.format",
            "backend.draft_model",
        }
        shared = [
            override
            for override in self._overrides
            if not (key := _key(override)).startswith(("backend", "model.")) or key in common
        ]
        return self._compose(name, [*shared, *more])

    def resolved(self, config: RunConfig) -> RunConfig:
        """The configuration with the files of the version that its model names, and the place of its draft model.

        Raises:
            LqmfError: there is no such version, its files are gone or have changed, or the draft model is not here.
        """
        config = self._of_version(config)
        if config.backend.draft_model is None:
            return config
        place = self._draft_place(config.backend.draft_model)
        return replace(config, backend=replace(config.backend, draft_model=place))

    def _draft_place(self, name: str) -> str:
        """Where the draft model is that a user calls by this name."""
        if name not in self._drafts:
            from ..models.locate import find

            own = [
                override
                for override in self._overrides
                if not _key(override).startswith(("backend", "model."))
            ]
            try:
                model = self._of_version(self._composed(name, own)).model
                found = find(model, self._models_dir, download=False)
            except LqmfError as error:
                error.message = f"backend.draft_model={name}: {error.message}"
                raise
            path = Path(found.path)  # of the only file in a folder, the folder, whose name it has
            self._drafts[name] = str(path.parent if path.parent.name == found.name else path)
        return self._drafts[name]

    def _of_version(self, config: RunConfig) -> RunConfig:
        if config.model.version is None:
            return config
        from ..runs.versions.resolve import resolve_version

        return resolve_version(config, self._versions)

    @functools.cached_property
    def _names(self) -> tuple[str, ...]:
        """Listed once, since a run composes a configuration for each of its models."""
        return model_names()

    @functools.cached_property
    def _versions(self) -> Sequence[WeightsVersion]:
        """All that the registry has, read once in a run."""
        from ..tracking.versions import read_versions

        return read_versions(self._tracking)

    def _compose(self, name: str, own: Sequence[str]) -> RunConfig:
        return self.resolved(self._composed(name, own))

    def _composed(self, name: str, own: Sequence[str]) -> RunConfig:
        overrides = [*own, *model_overrides(name, self._names, self._models_dir), "models=[]"]
        try:
            return to_run_config(hydra.compose(self._config_name, overrides=overrides))
        except Exception as error:
            raise translate(error) or error from error


def _raw(overrides: Any) -> list[str]:
    """The overrides as Hydra reads them: an item of its list is resolved, and `\\${` is then no escape any more."""
    raw = OmegaConf.to_container(overrides) if OmegaConf.is_config(overrides) else overrides
    assert isinstance(raw, list)
    return raw


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")


def model_names() -> tuple[str, ...]:
    """The names of all model configurations, also of those in the user's own folder."""
    options = GlobalHydra.instance().config_loader().get_group_options("model")
    return tuple(sorted(name for name in options if not name.endswith(SCHEMA_SUFFIX)))


def _check(config: RunConfig) -> Mode:
    """Refuse names that are not there, and what does not go together. Returns the mode."""
    mode = MODES.get(config.mode.name)
    if mode is None:
        raise unknown("mode", config.mode.name, MODES)
    if mode.needs_model and not config.model.name and not config.models:
        raise UserInputError(f"mode={mode.name} needs a model", hint="choose one with model=")
    names = ",".join(config.models)
    if config.models and not mode.several:
        raise UserInputError(
            f"mode={mode.name} does not take models=[{names}]",
            hint=f"choose one with model=, or each in a run of its own: -m model={names}",
        )
    if len(set(config.models)) < len(config.models):
        raise UserInputError(f"models=[{names}] names one twice", hint="give each once")
    valid = model_names()
    others = (config.reference, config.judge.model, config.similarity.model)
    for name in (*config.models, *filter(None, others)):
        model_overrides(name, valid, config.models_dir)
    if mode.leaves_folder:
        check_driver(config.tracking)
    if mode.check is not None:
        mode.check(config)
    return mode


def plain(composed: DictConfig, name: str) -> Any:
    """A value of the composed configuration as a plain object, interpolations resolved.

    OmegaConf's own `to_object` has no text `???`.

    Raises:
        OmegaConfBaseException: a value is missing or cannot be resolved.
        UserInputError: a value is out of range.
    """
    value = composed[name]
    if not OmegaConf.is_config(value):
        return value
    schema = OmegaConf.get_type(value)
    place = Place((schema,)) if is_dataclass(schema) else place_of(name)
    return _build(OmegaConf.to_container(value, resolve=True), place, name)


def _build(value: Any, place: Place, key: str) -> Any:
    if isinstance(value, list):
        items = place.items
        return value if items is None else [_build(v, items, f"{key}.{i}") for i, v in enumerate(value)]
    if isinstance(value, dict):
        (schema,) = place.hints
        return schema(**{k: _build(v, place.child(k), f"{key}.{k}") for k, v in value.items()})
    if value == MISSING and (place.typed is None or place.typed.resolved):
        raise missing(key)
    return value
